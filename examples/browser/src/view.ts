// Draws a State onto index.html.
import { ChatView } from './view-chat.js'
import { find, html, setAttrs, setText, show, sync } from './dom.js'
import { Graph } from './graph.js'
import type { Milestone } from './breakdown.js'
import type { State } from './state.js'
import { drawPeers, drawRelaySteps } from './view-peers.js'
import { drawRows } from './waterfall.js'
import { RELAY_WORDS, capital, headline, milliseconds, others, servers, shortId } from './words.js'

export interface Actions {
  say (text: string): Promise<string[]>
  retry (): void
}

const MILESTONES: Array<[Milestone, string, 'relayed' | 'direct' | 'plain']> = [
  ['script', 'Script running', 'plain'],
  ['info', 'Relay’s address read', 'plain'],
  ['libp2p', 'js-libp2p started', 'plain'],
  ['relay', 'Relay connected', 'relayed'],
  ['reserved', 'Reservation', 'relayed'],
  ['discovered', 'Peer heard of', 'relayed'],
  ['dialled', 'Peer dialled', 'relayed'],
  ['direct', 'Direct connection', 'direct']
]

export class View {
  #graph = new Graph(find('picture'))
  #chat: ChatView
  #id = ''

  constructor (actions: Actions) {
    this.#chat = new ChatView(actions.say)
    find('retry-now').addEventListener('click', () => { actions.retry() })
    find('copy').addEventListener('click', () => { void this.#copy() })
  }

  draw (s: State): void {
    this.#id = s.id
    drawStatus(s)
    drawProblem(s)
    drawFacts(s)
    this.#graph.draw(s)
    drawRelaySteps(find('relay-steps'), s)
    show(find('nobody'), s.peers.length === 0)
    drawPeers(find('peers'), s)
    this.#chat.draw(s)
    drawBreakdown(s)
    drawAddrs(s)
  }

  travel (direction: 'in' | 'out', peers: string[]): void {
    this.#graph.travel(direction, peers)
  }

  /** Pages that came over http from another machine have no clipboard. */
  async #copy (): Promise<void> {
    const said = find('copied')
    try {
      await navigator.clipboard.writeText(this.#id)
      setText(said, 'Copied.')
    } catch {
      getSelection()?.selectAllChildren(find('me-full'))
      setText(said, 'Selected: copy it with the keyboard.')
    }
    setTimeout(() => { setText(said, '') }, 4000)
  }
}

function drawStatus (s: State): void {
  const [head, sub] = headline(s)
  setText(find('headline'), head)
  setText(find('subline'), sub)
  setAttrs(document.documentElement, { 'data-relay': s.relay.state })
  const waiting = s.relay.retryIn !== null && s.relay.state !== 'ready'
  show(find('retry'), waiting || s.problem !== null)
  setText(find('retry-in'), waiting ? `Trying again in ${s.relay.retryIn} s.` : 'Trying again now.')
}

function drawProblem (s: State): void {
  const box = find('problem')
  // with direct connections up, a relay that is gone is news, not a problem
  const calm = s.relay.state === 'gone' && s.peers.some(p => p.path === 'direct')
  show(box, s.problem !== null && !calm)
  if (s.problem === null) {
    box.replaceChildren()
    return
  }
  const { what, tried, advice } = s.problem
  const parts = [['what', what], ['tried', `Tried: ${tried}`], ['advice', advice]].filter(([, text]) => text !== '')
  sync(box, parts, ([name]) => name ?? '', ([name]) => html('p', { class: name ?? '' }), (p, [, text]) => { setText(p, text ?? '') })
}

function drawFacts (s: State): void {
  setText(find('me-short'), shortId(s.id))
  setText(find('me-full'), s.id)
  show(find('copy'), s.id !== '')
  setText(find('relay-state'), RELAY_WORDS[s.relay.state])
  setAttrs(find('relay-state'), { 'data-state': s.relay.state })
  setText(find('relay-rtt'), s.relay.rtt === null ? '' : `round trip ${milliseconds(s.relay.rtt)}`)
  setText(find('relay-addr'), s.relay.addr)
  const [main, more] = others(s)
  setText(find('others'), main)
  setText(find('others-more'), more)
  setText(find('servers'), servers(s))
  const c = s.relay.circuit
  setText(find('limits'), c === null ? '' : `A relayed connection through this relay ends after ${c.seconds} s or ${Math.floor(c.bytes / 1024)} KiB each way: enough to arrange a direct one.`)
}

function drawBreakdown (s: State): void {
  const t = s.breakdown
  const reached = MILESTONES.flatMap(([name, label, kind]) => {
    const at = t[name]
    return at === undefined ? [] : [{ name, label, kind, at }]
  }).sort((a, b) => a.at - b.at)
  drawRows(find('breakdown'), reached.map((m, i) => (
    { key: m.name, label: m.label, kind: m.kind, start: reached[i - 1]?.at ?? 0, end: m.at, value: `at ${milliseconds(m.at)}` })))
  setText(find('breakdown-note'), t.direct === undefined
    ? 'No direct connection yet.'
    : `${capital(milliseconds(t.direct))} from page load, as the ${t.role === 'dialler' ? 'one who dialled' : 'one who was dialled'}. Times between the other page’s arrival and yours count too.`)
}

function drawAddrs (s: State): void {
  show(find('addrs-note'), s.addrs.length === 0)
  setText(find('addrs-note'), s.id === '' ? 'None yet.' : 'None now: they exist while the relay holds a reservation.')
  sync(find('addrs'), s.addrs.map(a => ({ a })), ({ a }) => a, ({ a }) => html('li', {}, html('code', {}, a)), () => {})
}
