// One plain description of everything, for the view and for tests.
import type { Connection } from '@libp2p/interface'
import type { App } from './app.js'
import type { Breakdown, BreakdownClock } from './breakdown.js'
import type { ChatMessage } from './chat.js'
import type { Flow, Step } from './flow.js'
import { isRelayed, pathWords, type Path } from './path.js'
import type { Peer } from './peers.js'
import type { RelayState } from './relay-link.js'
import type { Trouble } from './trouble.js'

export interface ConnectionState {
  id: string
  path: Exclude<Path, 'none'>
  /** the same in words, such as "direct WebRTC" */
  words: string
  direction: 'inbound' | 'outbound'
  addr: string
  /** last ping over this connection, ms; null before the first answer */
  rtt: number | null
  /** what is left of a limited circuit, where its relay said so */
  bytesLeft: number | null
  secondsLeft: number | null
}

export interface PeerState {
  id: string
  path: Path
  /**
   * connected: direct; dialling: this page dials; incoming: it dials this page;
   * retrying: a dial failed, the next is due; enough: not dialled because there
   * are direct peers enough; heard: known, waits for the relay; lost: gone
   */
  status: 'connected' | 'dialling' | 'incoming' | 'retrying' | 'enough' | 'heard' | 'lost'
  /** of its direct connection if it has one, ms */
  rtt: number | null
  mesh: boolean
  error: string | null
  /** seconds until the next dial, if one is due */
  retryIn: number | null
  connections: ConnectionState[]
  /** how it was connected, or is being: the last attempt */
  flow: FlowState | null
}

export type FlowState = Pick<Flow, 'role' | 'attempt' | 'outcome' | 'why' | 'start' | 'end'> & { steps: Step[] }

export interface State {
  /** this page's peer id; empty until js-libp2p has started */
  id: string
  relay: {
    state: RelayState | 'loading'
    id: string
    addr: string
    rtt: number | null
    mesh: boolean
    error: string | null
    retryIn: number | null
    /** performance.now() of the steps of the first connection to it */
    steps: Array<{ name: 'relay-connected' | 'reservation', start: number, end: number | null }>
    circuit: { seconds: number, bytes: number } | null
    stun: string[]
  }
  addrs: string[]
  peers: PeerState[]
  chat: { listeners: number, dropped: number, topic: string }
  messages: ChatMessage[]
  breakdown: Breakdown
  problem: { what: string, tried: string, advice: string } | null
}

/** What goes wrong before there is an app, and when reading relay.json is tried again. */
export interface Start { trouble?: Trouble, retryAt?: number }

export function snapshot (app: App | undefined, start: Start, clock: BreakdownClock): State {
  return {
    id: app?.node.peerId.toString() ?? '',
    relay: relayState(app, start, clock),
    addrs: app?.node.getMultiaddrs().map(String) ?? [],
    peers: app === undefined ? [] : [...app.peers.table.values()].map(p => peerState(app, p)),
    chat: {
      listeners: app?.chat.listeners() ?? 0,
      dropped: app?.chat.dropped ?? 0,
      topic: app?.relay.info.chatTopic ?? ''
    },
    messages: [...app?.chat.messages ?? []],
    breakdown: { ...clock.times },
    problem: problem(app, start)
  }
}

function relayState (app: App | undefined, start: Start, clock: BreakdownClock): State['relay'] {
  if (app === undefined) {
    return {
      state: start.trouble === undefined ? 'loading' : 'unreachable', id: '', addr: '', rtt: null, mesh: false,
      error: start.trouble?.message ?? null, retryIn: secondsUntil(start.retryAt), steps: [], circuit: null, stun: []
    }
  }
  const { relay, pinger, mesh } = app
  const conn = relay.connection()
  return {
    state: relay.state,
    id: relay.id,
    addr: relay.info.addr.toString(),
    rtt: conn === undefined ? null : pinger.rtt(conn) ?? null,
    mesh: mesh.has(relay.id),
    error: relay.trouble?.message ?? null,
    retryIn: secondsUntil(relay.retryAt),
    steps: relaySteps(app, clock),
    circuit: relay.info.circuit ?? null,
    stun: relay.info.stun
  }
}

function relaySteps ({ relay }: App, clock: BreakdownClock): State['relay']['steps'] {
  const steps: State['relay']['steps'] = []
  steps.push({ name: 'relay-connected', start: clock.times.libp2p ?? 0, end: relay.connectedAt ?? null })
  if (relay.reserveBegan !== undefined) {
    steps.push({ name: 'reservation', start: relay.reserveBegan, end: relay.reservedAt ?? null })
  }
  return steps
}

function problem (app: App | undefined, start: Start): State['problem'] {
  const trouble = app === undefined ? start.trouble : app.relay.state === 'ready' ? undefined : app.relay.trouble
  return trouble === undefined ? null : { what: trouble.message, tried: trouble.tried, advice: trouble.advice }
}

function peerState (app: App, peer: Peer): PeerState {
  const connections = app.peers.connections(peer).map(c => connectionState(app, c))
  const direct = connections.find(c => c.path === 'direct')
  return {
    id: peer.id,
    path: app.peers.path(peer),
    status: peerStatus(app, peer),
    rtt: direct?.rtt ?? null,
    mesh: app.mesh.has(peer.id),
    error: peer.error ?? null,
    retryIn: peer.nextTry > performance.now() ? secondsUntil(peer.nextTry) : null,
    connections,
    flow: peer.flow === undefined ? null : flowState(peer.flow)
  }
}

function flowState ({ role, attempt, outcome, why, start, end, steps }: Flow): FlowState {
  return { role, attempt, outcome, why, start, end, steps: steps.map(s => ({ ...s })) }
}

function peerStatus ({ peers, relay }: App, peer: Peer): PeerState['status'] {
  if (peers.path(peer) === 'direct') {
    return 'connected'
  }
  if (peer.dialling) {
    return 'dialling'
  }
  if (performance.now() < peer.theirTurn && peers.path(peer) === 'relayed') {
    return 'incoming'
  }
  if (peers.silent(peer)) {
    return relay.connected || peer.lost !== undefined ? 'lost' : 'heard'
  }
  if (!relay.connected) {
    return 'heard'
  }
  return peer.error !== undefined ? 'retrying' : peers.full ? 'enough' : 'heard'
}

function connectionState (app: App, conn: Connection): ConnectionState {
  const { limits } = conn
  return {
    id: conn.id,
    path: isRelayed(conn) ? 'relayed' : 'direct',
    words: pathWords(conn),
    direction: conn.direction,
    addr: conn.remoteAddr.toString(),
    rtt: app.pinger.rtt(conn) ?? null,
    bytesLeft: limits?.bytes === undefined ? null : Number(limits.bytes),
    secondsLeft: limits?.seconds === undefined ? null : Math.max(0, limits.seconds)
  }
}

function secondsUntil (at: number | undefined): number | null {
  return at === undefined ? null : Math.max(0, Math.ceil((at - performance.now()) / 1000))
}
