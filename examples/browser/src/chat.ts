// Chat on a GossipSub topic, and the way each line took to get here.
import { TopicValidatorResult } from '@libp2p/gossipsub'
import type { Node } from './node.js'

/** Characters of one line. */
export const MAX_CHARS = 500

const MAX_BYTES = MAX_CHARS * 4
const KEEP = 200

/** Of one author: so many at once, then one per interval. Nobody types faster. */
const BURST = 8
const REFILL_MS = 1000
const AUTHORS_CAP = 256

export type MessagePath = 'self' | 'direct' | 'relay' | 'peer'

export interface ChatMessage {
  n: number
  from: string
  text: string
  /** self: written here; direct: handed over by its author; relay, peer: forwarded by those */
  path: MessagePath
  /** who handed it to us, if that was not the author */
  via?: string
  at: Date
}

/** A word why a line was not sent. */
export class Refused extends Error {}

export class Chat {
  readonly messages: ChatMessage[] = []
  dropped = 0
  /** from whom a line came, or to whom one went */
  onTravel?: (direction: 'in' | 'out', peers: string[]) => void
  #node: Node
  #topic: string
  #relay: { id: string }
  #changed: () => void
  #count = 0
  #budgets = new Map<string, { left: number, at: number }>()

  constructor (node: Node, topic: string, relay: { id: string }, changed: () => void) {
    this.#node = node
    this.#topic = topic
    this.#relay = relay
    this.#changed = changed
    const { pubsub } = node.services
    // before delivery and forwarding: what is refused here goes no further
    pubsub.topicValidators.set(topic, (_from, message) => (
      message.data.byteLength > MAX_BYTES ? TopicValidatorResult.Ignore : TopicValidatorResult.Accept))
    pubsub.addEventListener('gossipsub:message', ({ detail: { msg, propagationSource } }) => {
      if (msg.topic === topic && msg.type === 'signed') {
        this.#receive(msg.from.toString(), propagationSource.toString(), msg.data)
      }
    })
    pubsub.subscribe(topic)
  }

  /** Who is known to listen; the relay forwards without listening, so it does not count. */
  listeners (): number {
    return this.#node.services.pubsub.getSubscribers(this.#topic).filter(p => p.toString() !== this.#relay.id).length
  }

  /** Returns to whom GossipSub handed the line, the relay included. Throws {@link Refused}. */
  async say (text: string): Promise<string[]> {
    const line = printable(text).trim()
    if (line === '') {
      throw new Refused('Write something first.')
    }
    if ([...line].length > MAX_CHARS) {
      throw new Refused(`Too long: a line has at most ${MAX_CHARS} characters.`)
    }
    const { recipients } = await this.#node.services.pubsub.publish(this.#topic, new TextEncoder().encode(line))
    const peers = recipients.map(String)
    this.#keep({ from: this.#node.peerId.toString(), text: line, path: 'self' })
    this.onTravel?.('out', peers)
    return peers
  }

  #receive (from: string, source: string, data: Uint8Array): void {
    if (data.byteLength > MAX_BYTES) {
      return
    }
    if (!this.#affords(from)) {
      this.dropped++
      this.#changed()
      return
    }
    const path = source === from ? 'direct' : source === this.#relay.id ? 'relay' : 'peer'
    const text = printable(new TextDecoder().decode(data))
    this.#keep({ from, text, path, ...(path === 'direct' ? {} : { via: source }) })
    this.onTravel?.('in', [source])
  }

  #keep (message: Omit<ChatMessage, 'n' | 'at'>): void {
    this.messages.push({ n: this.#count++, at: new Date(), ...message })
    this.messages.splice(0, Math.max(0, this.messages.length - KEEP))
    this.#changed()
  }

  #affords (author: string): boolean {
    const now = performance.now()
    const budget = this.#budgets.get(author) ?? { left: BURST, at: now }
    budget.left = Math.min(BURST, budget.left + (now - budget.at) / REFILL_MS)
    budget.at = now
    this.#budgets.delete(author) // set again below: the map stays in order of use
    this.#budgets.set(author, budget)
    if (this.#budgets.size > AUTHORS_CAP) {
      const oldest = this.#budgets.keys().next().value
      this.#budgets.delete(oldest ?? '')
    }
    if (budget.left < 1) {
      return false
    }
    budget.left--
    return true
  }
}

/** Text keeps its letters and loses control characters and overrides of its direction. */
function printable (text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]+/g, ' ')
}
