// The sentences of the page.
import type { ConnectionState, PeerState, State } from './state.js'

/** The end of a peer id: all Ed25519 ids begin with the same letters. */
export function shortId (id: string): string {
  return id === '' ? '…' : `…${id.slice(-7)}`
}

export function milliseconds (ms: number): string {
  if (ms < 0.05) {
    return 'under 1 ms' // browsers round their clocks, Firefox to 1 ms
  }
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`
}

export function count (n: number, one: string, many = `${one}s`): string {
  return n === 0 ? `no ${many}` : n === 1 ? `1 ${one}` : `${n} ${many}`
}

export function capital (text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

export const RELAY_WORDS: Record<State['relay']['state'], string> = {
  loading: 'looking for it',
  connecting: 'connecting',
  reserving: 'connected, reserving',
  ready: 'connected, reserved',
  refused: 'connected, no reservation',
  unreachable: 'not reachable',
  gone: 'gone'
}

export const STATUS_WORDS: Record<PeerState['status'], string> = {
  connected: 'direct',
  dialling: 'being dialled',
  incoming: 'it is dialling you',
  retrying: 'dial failed',
  enough: 'not dialled: you have direct peers enough',
  heard: 'heard of, not connected',
  lost: 'lost'
}

export function headline (s: State): [string, string] {
  const direct = s.peers.filter(p => p.path === 'direct').length
  switch (s.relay.state) {
    case 'loading': return ['Looking for the relay…', '']
    case 'connecting': return ['Connecting to the relay…', '']
    case 'reserving': return direct > 0 ? withPeers(direct) : ['Asking the relay for a reservation…', '']
    case 'unreachable': return ['The relay cannot be reached.', 'Without it nobody can find you.']
    case 'gone': return gone(direct)
    case 'refused': return direct > 0 ? withPeers(direct) : ['The relay gave no reservation.', 'You can reach others, but nobody can reach you.']
    case 'ready': return direct > 0 ? withPeers(direct) : alone(s)
  }
}

function withPeers (direct: number): [string, string] {
  return [`You have ${count(direct, 'direct connection')}.`, 'The relay made the introduction. Now the browsers talk to each other.']
}

function gone (direct: number): [string, string] {
  return direct > 0
    ? [`The relay is gone. Your ${direct === 1 ? 'direct connection goes' : `${direct} direct connections go`} on.`, 'Chat works as before. Until the relay is back, new peers cannot find you.']
    : ['The relay is gone.', 'Until it is back, nobody can find you.']
}

function alone (s: State): [string, string] {
  const meeting = s.peers.filter(p => p.status === 'dialling' || p.status === 'incoming').length
  const apart = s.peers.find(p => p.error !== null && p.status !== 'lost')
  if (apart?.error != null) {
    return ['Another page was found, but no direct way to it yet.', `${capital(apart.error)}.`]
  }
  return meeting > 0
    ? [`Meeting ${count(meeting, 'other page')}…`, '']
    : ['You can be found. Nobody else is connected.', 'Open this page in another tab, another browser, or on another machine.']
}

export function others (s: State): [string, string] {
  const direct = s.peers.filter(p => p.path === 'direct').length
  const rest = s.peers.filter(p => p.path !== 'direct' && p.status !== 'lost').length
  const lost = s.peers.filter(p => p.status === 'lost').length
  if (direct + rest + lost === 0) {
    return ['nobody yet', '']
  }
  const more = [rest > 0 ? `${rest} not connected directly` : '', lost > 0 ? `${lost} lost` : ''].filter(t => t !== '').join(', ')
  return [direct === 0 ? 'none direct' : `${direct} direct`, more]
}

/** What a peer's row says beside its name. */
export function peerLine (p: PeerState): string {
  if (p.status === 'connected') {
    return 'direct WebRTC'
  }
  if (p.error !== null && (p.status === 'dialling' || p.status === 'incoming')) {
    return `${STATUS_WORDS[p.status]}; your last dial: ${p.error}`
  }
  const why = p.status === 'retrying' && p.error !== null ? `: ${p.error}` : ''
  const next = p.status === 'retrying' && p.retryIn !== null ? `; next try in ${p.retryIn} s` : ''
  return `${STATUS_WORDS[p.status]}${why}${next}`
}

export function connectionLine (c: ConnectionState): string {
  const left = [
    c.bytesLeft === null ? '' : `${Math.floor(c.bytesLeft / 1024)} KiB`,
    c.secondsLeft === null ? '' : `${c.secondsLeft} s`
  ].filter(t => t !== '').join(' and ')
  const who = c.direction === 'outbound' ? 'you dialled' : 'it dialled'
  return left === '' ? who : `${who}, ${left} left`
}

export function travelWords ({ path, via, from }: State['messages'][number], s: State): string {
  switch (path) {
    case 'direct': return 'direct from its author'
    case 'relay': return s.peers.some(p => p.id === from && p.path === 'direct')
      ? 'forwarded by the relay, whose copy came first'
      : 'forwarded by the relay'
    case 'peer': {
      const peer = s.peers.find(p => p.id === via)
      return `forwarded by ${shortId(via ?? '')}${peer?.path === 'direct' ? ', a direct peer' : ''}`
    }
    default: return 'you'
  }
}

export function servers (s: State): string {
  const stun = s.relay.stun.length === 0
    ? 'No other server is asked: the relay names no STUN server, without which pages behind different NATs stay relayed.'
    : `The relay names a STUN server, which is asked for your public address: ${s.relay.stun.join(', ')}.`
  return `Stock js-libp2p in this tab; Circuit Relay v2 and GossipSub at the relay. ${stun}`
}

/** What became of a line that was sent. */
export function sentWords (recipients: string[], relay: string): string {
  const peers = recipients.filter(r => r !== relay).length
  const viaRelay = peers < recipients.length
  if (recipients.length === 0) {
    return 'Nobody is listening: your line went nowhere.'
  }
  if (peers === 0) {
    return 'Nobody is known to listen. Your line went to the relay alone, which forwards it to whoever does.'
  }
  return `Sent to ${count(peers, 'peer')} directly${viaRelay ? ' and to the relay' : ''}.`
}
