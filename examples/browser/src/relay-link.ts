// Keeps this page connected to its relay, with a reservation there.
import { RELAY_V2_HOP_CODEC } from '@libp2p/circuit-relay-v2'
import type { Connection } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import type { Node } from './node.js'
import type { RelayInfo } from './relay-info.js'
import { Trouble, errorText } from './trouble.js'

/**
 * connecting: first attempt; reserving: connected, asking for a reservation;
 * ready: others can reach this page; refused: connected, but no reservation;
 * unreachable: never connected so far; gone: was connected.
 */
export type RelayState = 'connecting' | 'reserving' | 'ready' | 'refused' | 'unreachable' | 'gone'

const CONNECT_MS = 8000

/** js-libp2p bounds a reservation by 5 s; this is in case it does not. */
const RESERVE_MS = 8000

const IDENTIFY_MS = 3000

/** Between a reservation and the address that comes of it. */
const SETTLE_MS = 1000

const RETRY_MIN_MS = 1000
const RETRY_MAX_MS = 15_000

export class RelayLink {
  state: RelayState = 'connecting'
  info: RelayInfo
  trouble?: Trouble
  /** performance.now() of the next attempt, while waiting for it */
  retryAt?: number
  connectedAt?: number
  reservedAt?: number
  reserveBegan?: number
  #node: Node
  #again: () => Promise<RelayInfo>
  #changed: () => void
  #wake: () => void = () => {}
  #identified = ''

  /** again reads the relay's address anew: a relay may come back elsewhere. */
  constructor (node: Node, info: RelayInfo, again: () => Promise<RelayInfo>, changed: () => void) {
    this.#node = node
    this.info = info
    this.#again = again
    this.#changed = changed
    node.addEventListener('connection:close', () => { this.#wake() })
    // the reservation may also end while the connection goes on
    node.addEventListener('self:peer:update', () => { this.#wake() })
    node.addEventListener('peer:identify', ({ detail }) => {
      if (detail.peerId.toString() === this.id) {
        this.#identified = detail.connection.id
      }
    })
  }

  get id (): string {
    return this.info.id
  }

  connection (): Connection | undefined {
    return this.#node.getConnections().find(c => c.remotePeer.toString() === this.id && c.status === 'open')
  }

  get connected (): boolean {
    return this.connection() !== undefined
  }

  retryNow (): void {
    if (this.retryAt !== undefined) {
      this.#wake()
    }
  }

  /** Never returns: connects, waits until the relay is lost, connects again. */
  async run (): Promise<void> {
    for (let failures = 0; ;) {
      try {
        await this.#connect()
        await this.#knowItServes()
        await this.#reserve()
        failures = 0
        await this.#untilLost()
        this.#set(this.connected ? 'reserving' : 'gone')
      } catch (err) {
        failures++
        this.trouble = err instanceof Trouble ? err : new Trouble(errorText(err), String(this.info.addr), '')
      }
      await this.#pause(failures)
    }
  }

  async #connect (): Promise<void> {
    try {
      await this.#node.dial(this.info.addr, { signal: AbortSignal.timeout(CONNECT_MS) })
    } catch (err) {
      this.#set(this.connectedAt === undefined ? 'unreachable' : 'gone')
      throw connectTrouble(err, this.info)
    }
    this.connectedAt ??= performance.now()
  }

  /**
   * A relay that has just started may not serve circuits yet. js-libp2p never
   * asks a relay again that once said so, hence it must not be asked before.
   */
  async #knowItServes (): Promise<void> {
    this.#set('reserving')
    await until(() => this.#identified === this.connection()?.id, IDENTIFY_MS)
    const conn = this.connection()
    const known = conn === undefined ? undefined : await this.#node.peerStore.get(conn.remotePeer)
    if (known?.protocols.includes(RELAY_V2_HOP_CODEC) !== true) {
      this.#set(this.connected ? 'refused' : 'gone')
      throw new Trouble('The relay does not serve circuits, at least not yet.', String(this.info.addr), 'Is this the address of a relay?')
    }
  }

  async #reserve (): Promise<void> {
    this.reserveBegan ??= performance.now()
    try {
      await bounded(this.#node.services.circuit.reserve(this.info.addr), RESERVE_MS)
      if (!await until(() => this.#reserved(), SETTLE_MS)) {
        throw new Error('no circuit address')
      }
    } catch (err) {
      if (!this.connected) {
        this.#set('gone')
        throw new Trouble('The connection to the relay closed.', String(this.info.addr), '')
      }
      this.#set('refused')
      throw reserveTrouble(err, this.info)
    }
    this.reservedAt ??= performance.now()
    delete this.trouble
    this.#set('ready')
  }

  #reserved (): boolean {
    return this.#node.getMultiaddrs().some(a => a.toString().includes(`/p2p/${this.id}/p2p-circuit`))
  }

  async #untilLost (): Promise<void> {
    while (this.connected && this.#reserved()) {
      await new Promise<void>(resolve => { this.#wake = resolve })
    }
  }

  async #pause (failures: number): Promise<void> {
    // up to half as long again, so that all pages do not come at the same moment
    const wait = Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** Math.max(0, failures - 1)) * (1 + Math.random() / 2)
    this.retryAt = performance.now() + wait
    this.#changed()
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, wait)
      this.#wake = () => { clearTimeout(timer); resolve() }
    })
    delete this.retryAt
    if (!this.connected) {
      await this.#again().then(info => { this.info = info }, () => {
        // the address that is known stays the best guess
      })
    }
  }

  #set (state: RelayState): void {
    this.state = state
    this.#changed()
  }
}

async function bounded<T> (work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(new Error(`no answer within ${ms / 1000} s`)) }, ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Looks a few times a frame whether something has come about. */
async function until (done: () => boolean, ms: number): Promise<boolean> {
  const end = performance.now() + ms
  while (!done() && performance.now() < end) {
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  return done()
}

function connectTrouble (err: unknown, info: RelayInfo): Trouble {
  const tried = String(info.addr)
  const text = errorText(err)
  if (/does not match expected remote identity/.test(text)) {
    return new Trouble('Another relay, with another identity, answers at this address.', tried,
      'Check the peer id in ?relay=, or reload the page to learn the new one.')
  }
  // what a WebSocket tells a page is an event without a reason
  const why = /object Event/.test(text) ? 'refused or cut off; browsers do not say why'
    : /timed? ?out|aborted/i.test(text) ? `no answer within ${CONNECT_MS / 1000} s` : text
  return new Trouble(`The WebSocket connection to ${webSocketUrl(tried)} failed (${why}).`, tried,
    'Is the relay running? Does a firewall or proxy let WebSockets through?')
}

function reserveTrouble (err: unknown, info: RelayInfo): Trouble {
  const text = errorText(err)
  const tried = String(info.addr)
  if (/previously invalid/.test(text)) {
    return new Trouble('js-libp2p has given up on this relay.', tried, 'Reload the page.')
  }
  const status = /status (\w+)/.exec(text)?.[1]
  const what = status === undefined ? `The relay gave no reservation (${text}).` : `The relay refused a reservation: ${status}.`
  return new Trouble(what, tried, 'It may be full, or allow fewer pages for one IP address.')
}

/** What the browser dials for a WebSocket multiaddr. */
function webSocketUrl (addr: string): string {
  const parts = multiaddr(addr).getComponents()
  const secure = parts.some(c => c.name === 'wss' || c.name === 'tls')
  const host = parts[0]?.value ?? ''
  return `${secure ? 'wss' : 'ws'}://${parts[0]?.name === 'ip6' ? `[${host}]` : host}:${parts[1]?.value ?? ''}`
}
