// The list of peers: path, connections, steps.
import { html, setAttrs, setText, show, sync } from './dom.js'
import type { StepName } from './flow.js'
import type { ConnectionState, FlowState, PeerState, State } from './state.js'
import { drawRows, type Row } from './waterfall.js'
import { connectionLine, milliseconds, peerLine, shortId } from './words.js'

const STEP_WORDS: Record<StepName, string> = {
  discovered: 'Heard of it',
  relayed: 'Relayed connection',
  signaling: 'Signaling stream',
  offer: 'Offer written',
  answer: 'Answer came',
  candidates: 'Candidates, ICE, DTLS',
  connected: 'Direct connection',
  'relayed-in': 'It came in by the relay',
  'connected-in': 'Direct connection'
}

export function drawRelaySteps (list: HTMLElement, s: State): void {
  const words = { 'relay-connected': 'Relay connected', reservation: 'Reservation' }
  drawRows(list, s.relay.steps.map(step => ({ key: step.name, label: words[step.name], start: step.start, end: step.end, kind: 'relayed' })))
}

export function drawPeers (list: HTMLElement, s: State): void {
  const rank = { direct: 0, relayed: 1, none: 2 }
  const peers = [...s.peers].sort((a, b) => rank[a.path] - rank[b.path])
  sync(list, peers, p => p.id, createPeer, updatePeer)
}

function createPeer (peer: PeerState): HTMLLIElement {
  // the first one tells the story; the others can be opened
  const open = document.querySelector('[data-testid="peer-row"]') === null
  const details = html('details', {},
    html('summary', {}, html('span', { class: 'how' })), html('ol', { class: 'steps' }), html('p', { class: 'note' }))
  details.open = open
  return html('li', { 'data-testid': 'peer-row', 'data-peer': peer.id },
    html('div', { class: 'who' },
      html('strong', { class: 'id', title: peer.id }, shortId(peer.id)), html('span', { class: 'path' }), html('span', { class: 'mesh' })),
    html('ul', { class: 'conns' }),
    details)
}

function updatePeer (li: HTMLLIElement, peer: PeerState): void {
  const [who, conns, details] = li.children
  const [, path, mesh] = who?.children ?? []
  if (conns === undefined || path === undefined || mesh === undefined || !(details instanceof HTMLDetailsElement)) {
    return
  }
  setAttrs(li, { 'data-path': peer.path, 'data-status': peer.status, class: peer.path })
  setText(path, peerLine(peer))
  setText(mesh, peer.mesh ? 'in your chat mesh' : '')
  sync(conns, peer.connections, c => c.id, createConnection, updateConnection)
  drawFlow(details, peer.flow)
}

function createConnection (): HTMLLIElement {
  return html('li', {}, html('span', { class: 'badge' }), html('span', { class: 'ms' }), html('span', { class: 'limits' }))
}

function updateConnection (li: HTMLLIElement, conn: ConnectionState): void {
  const [badge, rtt, limits] = li.children
  if (badge === undefined || rtt === undefined || limits === undefined) {
    return
  }
  setAttrs(li, { class: conn.path, 'data-path': conn.path, title: conn.addr })
  setText(badge, conn.words)
  setText(rtt, conn.rtt === null ? 'round trip …' : `round trip ${milliseconds(conn.rtt)}`)
  setText(limits, connectionLine(conn))
}

function drawFlow (details: HTMLDetailsElement, flow: FlowState | null): void {
  const [summary, list, note] = details.children
  show(details, flow !== null)
  if (flow === null || summary?.firstElementChild == null || list === undefined || note === undefined) {
    return
  }
  setText(summary.firstElementChild, flowTitle(flow))
  drawRows(list, flow.steps.map(step => row(step, flow)))
  setText(note, flow.why !== '' ? `Failed: ${flow.why}.` : flow.role === 'listener'
    ? 'It dialled you, so offer, answer and candidates are timed on its page.'
    : 'Each step lasts until the next begins, as js-libp2p reports it.')
}

function flowTitle (flow: FlowState): string {
  const who = flow.role === 'dialler' ? 'You dialled' : 'It dialled you'
  const again = flow.attempt > 1 ? `, attempt ${flow.attempt}` : ''
  const ms = milliseconds(flow.end - flow.start)
  const result = { running: '', connected: `: ${ms} in ${flow.steps.length} steps`, failed: `: failed after ${ms}` }
  return `${who}${again}${result[flow.outcome]}`
}

function row (step: FlowState['steps'][number], flow: FlowState): Row {
  const last = step === flow.steps.at(-1)
  const direct = step.name === 'connected' || step.name === 'connected-in' || step.name === 'candidates'
  const label = STEP_WORDS[step.name] + (step.count === undefined ? '' : ` (${step.count})`)
  return {
    key: step.name,
    label,
    start: step.start,
    end: step.end ?? null,
    failed: last && flow.outcome === 'failed',
    kind: step.name === 'discovered' ? 'plain' : direct ? 'direct' : 'relayed'
  }
}
