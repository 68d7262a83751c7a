// Listens to every RTCPeerConnection, so that a test can tell a fault of
// js-libp2p's data channel handling from one of the relay. It adds listeners and
// calls through: what js-libp2p sees and does stays the same.
import { record } from './events.ts'

/** What browsers' RTCPeerConnection and node-datachannel's have in common, as far as it is used here. */
interface PeerConnection extends EventTarget {
  readonly connectionState: string
  createDataChannel: (label: string, init?: RTCDataChannelInit) => RTCDataChannel
  setRemoteDescription: (description: RTCSessionDescriptionInit) => Promise<void>
}

export interface PeerConnectionClass {
  prototype: PeerConnection
}

// The faults looked for happen to a connection's first few. Some tests open thousands, which would fill the log.
const watchedChannels = 40

let connections = 0
const names = new WeakMap<PeerConnection, string>()
const channels = new Map<string, number>()

function watchChannel (owner: string, direction: 'out' | 'in', channel: RTCDataChannel): void {
  const count = (channels.get(owner) ?? 0) + 1
  channels.set(owner, count)
  if (count > watchedChannels) {
    return
  }
  const say = (what: string): void => {
    record('rtc:channel', `${owner} ${direction} ${JSON.stringify(channel.label)} id=${channel.id ?? '?'} ${what}`)
  }
  say('created')
  channel.addEventListener('open', () => { say('open') })
  channel.addEventListener('close', () => { say('close') })
  channel.addEventListener('error', () => { say('error') })
  channel.addEventListener('message', () => { say('first message') }, { once: true })
  if (channel.label === 'init') {
    const close = channel.close.bind(channel)
    channel.close = () => {
      say('close called')
      close()
    }
  }
}

function watchConnection (connection: PeerConnection): string {
  const known = names.get(connection)
  if (known != null) {
    return known
  }
  const name = `pc${++connections}`
  names.set(connection, name)
  record('rtc:new', name)
  connection.addEventListener('connectionstatechange', () => {
    record('rtc:state', `${name} ${connection.connectionState}`)
  })
  connection.addEventListener('datachannel', (event) => {
    watchChannel(name, 'in', (event as RTCDataChannelEvent).channel)
  })
  return name
}

/** js-libp2p's first call is createDataChannel where it dials, setRemoteDescription where it listens. */
export function watch ({ prototype }: PeerConnectionClass): void {
  const { createDataChannel, setRemoteDescription } = prototype
  prototype.createDataChannel = function (label, init) {
    const name = watchConnection(this)
    const channel = createDataChannel.call(this, label, init)
    watchChannel(name, 'out', channel)
    return channel
  }
  prototype.setRemoteDescription = async function (description) {
    watchConnection(this)
    await setRemoteDescription.call(this, description)
  }
}
