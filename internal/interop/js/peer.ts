// A js-libp2p peer as an application would write it, and the surface through
// which a test drives it. The same code runs in a browser page and in Node.
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { gossipsub, type GossipSub, type GossipsubMessage } from '@libp2p/gossipsub'
import { identify, identifyPush, type Identify, type IdentifyPush } from '@libp2p/identify'
import type { Connection, PeerInfo } from '@libp2p/interface'
import { noise } from '@libp2p/noise'
import { ping, type Ping } from '@libp2p/ping'
import { pubsubPeerDiscovery, type PubsubPeerDiscoveryInit } from '@libp2p/pubsub-peer-discovery'
import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr'
import { Circuit, WebRTC } from '@multiformats/multiaddr-matcher'
import { createLibp2p, type Libp2p } from 'libp2p'
import { describe, now, record, recorded, type LogEvent } from './events.ts'
import * as exercise from './exercise.ts'
import { presentTo } from './invite.ts'

export interface Config {
  /** Multiaddrs of the relays to reserve at, with their /p2p part. */
  relays: string[]
  /** Discovery topics. Left out: the default one of pubsubPeerDiscovery. */
  topics?: string[]
  /** Milliseconds between announcements. Left out: the default of pubsubPeerDiscovery. */
  interval?: number
  /** Application topics to subscribe to at once. */
  subscribe?: string[]
  /** Dial what is discovered. Left out: true. */
  dial?: boolean
  /**
   * How to come back to a relay that was away. Left out: not at all, for js-libp2p reserves where it was told to once,
   * and never again after the connection is lost (js-libp2p issue 3601). 'stock': the peer looks for relays among those
   * it has dialled, which js-libp2p does again once, at the moment it loses one, and keeps their addresses for longer
   * than js-libp2p's one hour. 'loop': and it dials the relay itself, once a second.
   */
  comeback?: 'stock' | 'loop'
  /** URLs of STUN servers. Left out: none; js-libp2p's own list asks four public ones, and the tests have no way out. */
  iceServers?: string[]
  /** A token for relays that want one. */
  invite?: string
  /** Milliseconds from a connection to the invite. Left out: 0. */
  inviteAfter?: number
}

export interface ConnectionState {
  id: string
  peer: string
  address: string
  direction: string
  status: string
  limited: boolean
  identified: boolean
  openedAt: number
  streams: string[]
}

export interface Discovery {
  peer: string
  addresses: string[]
  at: number
}

export interface Dial {
  peer: string
  startedAt: number
  /** 0 while the dial is running. */
  endedAt: number
  /** Empty when the dial succeeded. */
  error: string
}

export interface Message {
  /** The message id as this peer computed it, base64. */
  id: string
  topic: string
  from: string
  /** The neighbour that it came from first. */
  via: string
  size: number
  /** The first 200 bytes as text, for application topics. */
  text: string
  at: number
}

/** Milliseconds since the page began to load (navigationStart). 0: not yet. */
export interface Marks {
  script: number
  relay: number
  reserved: number
  discovered: number
  dialled: number
  direct: number
}

export interface State {
  peer: string
  addresses: string[]
  connections: ConnectionState[]
  discovered: Discovery[]
  dials: Dial[]
  messages: Message[]
  subscribers: Record<string, string[]>
  marks: Marks
  events: LogEvent[]
}

interface Services {
  identify: Identify
  identifyPush: IdentifyPush
  ping: Ping
  pubsub: GossipSub
  [name: string]: unknown
}

const decoder = new TextDecoder()
const encoder = new TextEncoder()

/** A WebRTC connection that a relay only introduced: no relay in the data path. */
export function isDirect (connection: Connection): boolean {
  return WebRTC.matches(connection.remoteAddr) && connection.limits == null
}

function create (config: Config): Promise<Libp2p<Services>> {
  const discovery: PubsubPeerDiscoveryInit = {}
  if (config.interval != null) {
    discovery.interval = config.interval
  }
  if (config.topics != null) {
    discovery.topics = config.topics
  }
  return createLibp2p<Services>({
    start: false,
    addresses: { listen: ['/webrtc', ...config.relays.map((relay) => config.comeback == null ? `${relay}/p2p-circuit` : '/p2p-circuit')] },
    transports: [
      webSockets(),
      webRTC({ rtcConfiguration: { iceServers: (config.iceServers ?? []).map((urls) => ({ urls })) } }),
      circuitRelayTransport()
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    // The browser default denies plain ws:// and private addresses, hence any test relay.
    connectionGater: { denyDialMultiaddr: () => false },
    ...(config.comeback == null ? {} : { peerStore: { maxAddressAge: Infinity } }),
    peerDiscovery: [pubsubPeerDiscovery(discovery)],
    services: {
      identify: identify(),
      identifyPush: identifyPush(),
      // One more than js-libp2p's own 1, which its connection monitor may just be using.
      ping: ping({ maxOutboundStreams: 2 }),
      pubsub: gossipsub()
    }
  })
}

/** How often the application looks whether it has a connection to the relay. */
const keepAliveMs = 1000

/** Dials the relays that are to be found, and returns once there is a reservation. */
async function find (node: Libp2p<Services>, relays: Multiaddr[]): Promise<Connection[]> {
  const reserved = new Promise<void>((resolve) => {
    node.addEventListener('transport:listening', () => {
      if (node.getMultiaddrs().some((address) => Circuit.matches(address))) {
        resolve()
      }
    })
  })
  const connections = await Promise.all(relays.map(async (relay) => await node.dial(relay)))
  await reserved
  return connections
}

/** What an application does to come back to a relay, for js-libp2p dials it once only. */
function keepAlive (node: Libp2p<Services>, relays: Connection[]): void {
  setInterval(() => {
    for (const { remoteAddr } of relays.filter(({ remotePeer }) => node.getConnections(remotePeer).length === 0)) {
      node.dial(remoteAddr).catch(() => { /* the next look tries again */ })
    }
  }, keepAliveMs)
}

export class Peer {
  readonly marks: Marks = { script: performance.now(), relay: 0, reserved: 0, discovered: 0, dialled: 0, direct: 0 }
  readonly #discovered: Discovery[] = []
  readonly #dials: Dial[] = []
  readonly #messages: Message[] = []
  readonly #identified = new Set<string>()
  readonly #dialling = new Set<string>()
  #dialDiscovered = true
  #received: exercise.Received[] = []
  #node: Libp2p<Services> | undefined

  /** Resolves once the relays have granted their reservations. */
  async start (config: Config): Promise<string> {
    const node = await create(config)
    this.#node = node
    this.#dialDiscovered = config.dial ?? true
    this.#watchConnections(node)
    if (config.invite != null) {
      presentTo(node, config.relays, config.invite, config.inviteAfter ?? 0)
    }
    this.#watchMessages(node)
    node.addEventListener('peer:discovery', (event) => { this.#onDiscovery(node, event.detail) })
    this.#received = await exercise.serve(node)
    await node.start()
    if (config.comeback != null) {
      const relays = await find(node, config.relays.map((relay) => multiaddr(relay)))
      if (config.comeback === 'loop') {
        keepAlive(node, relays)
      }
    }
    this.#noteReservation(node)
    for (const topic of config.subscribe ?? []) {
      node.services.pubsub.subscribe(topic)
    }
    record('started', node.peerId.toString())
    return node.peerId.toString()
  }

  state (): State {
    const node = this.#node
    if (node == null) {
      return { peer: '', addresses: [], connections: [], discovered: [], dials: [], messages: [], subscribers: {}, marks: this.marks, events: recorded() }
    }
    const pubsub = node.services.pubsub
    return {
      peer: node.peerId.toString(),
      addresses: node.getMultiaddrs().map(String),
      connections: node.getConnections().map((connection) => this.#describe(connection)),
      discovered: this.#discovered,
      dials: this.#dials,
      messages: this.#messages,
      subscribers: Object.fromEntries(pubsub.getTopics().map((topic) => [topic, pubsub.getSubscribers(topic).map(String)])),
      marks: this.marks,
      events: recorded()
    }
  }

  /** Dials the addresses, WebRTC ones normally, and returns how many milliseconds it took; the outcome is also in state().dials. */
  async dial (peer: string, addresses: string[]): Promise<number> {
    return await this.#dial(this.#started(), peer, addresses.map((address) => multiaddr(address)))
  }

  /** Ends a connection without waiting for its streams. */
  abort (id: string): void {
    const connection = this.#started().getConnections().find((candidate) => candidate.id === id)
    connection?.abort(new Error('aborted by the test'))
  }

  subscribe (topic: string): void {
    this.#started().services.pubsub.subscribe(topic)
  }

  /** Publishes text, padded with spaces to size bytes; returns who it was sent to. */
  async publish (topic: string, text: string, size: number): Promise<string[]> {
    const result = await this.#started().services.pubsub.publish(topic, encoder.encode(text.padEnd(size)))
    return result.recipients.map(String)
  }

  /** The round trip time in milliseconds. */
  async ping (peer: string): Promise<number> {
    return await this.#started().services.ping.ping(this.#direct(peer).remotePeer)
  }

  /** Runs count echo streams over the direct connection, up to concurrent at once. */
  async streams (peer: string, count: number, concurrent: number, size: number): Promise<exercise.Outcome> {
    return await exercise.streams(this.#direct(peer), count, concurrent, size)
  }

  async upload (peer: string, bytes: number, seed: number): Promise<exercise.Transfer> {
    return await exercise.upload(this.#direct(peer), bytes, seed)
  }

  async download (peer: string, bytes: number, seed: number): Promise<exercise.Transfer> {
    return await exercise.download(this.#direct(peer), bytes, seed)
  }

  async halfClose (peer: string, bytes: number, seed: number): Promise<exercise.HalfClosed> {
    return await exercise.halfClose(this.#direct(peer), bytes, seed)
  }

  async resetSeen (peer: string): Promise<exercise.Ending> {
    return await exercise.resetSeen(this.#direct(peer))
  }

  /** The streams of a test protocol that others have opened and that have ended; not in state(), for they are many. */
  received (protocol: string): exercise.Received[] {
    return this.#received.filter((stream) => stream.protocol === protocol)
  }

  async stop (): Promise<void> {
    await this.#node?.stop()
  }

  #direct (peer: string): Connection {
    const all = this.#started().getConnections().filter((candidate) => candidate.remotePeer.toString() === peer && isDirect(candidate))
    const connection = all.find(({ id }) => this.#identified.has(id)) ?? all[0]
    if (connection == null) {
      throw new Error(`no direct connection to ${peer}`)
    }
    return connection
  }

  #started (): Libp2p<Services> {
    if (this.#node == null) {
      throw new Error('the peer was not started')
    }
    return this.#node
  }

  #mark (name: keyof Marks): void {
    if (this.marks[name] === 0) {
      this.marks[name] = performance.now()
    }
  }

  #noteReservation (node: Libp2p<Services>): void {
    // getMultiaddrs is exact; the self:peer:update event lags it by a second.
    if (node.getMultiaddrs().some((address) => Circuit.matches(address))) {
      this.#mark('reserved')
    }
  }

  #watchConnections (node: Libp2p<Services>): void {
    node.addEventListener('connection:open', ({ detail: connection }) => {
      record('connection:open', this.#summary(connection))
      if (isDirect(connection)) {
        this.#mark('direct')
      } else if (connection.limits == null) {
        this.#mark('relay')
      }
    })
    node.addEventListener('connection:close', ({ detail: connection }) => {
      record('connection:close', this.#summary(connection))
    })
    node.addEventListener('peer:identify', ({ detail }) => {
      this.#identified.add(detail.connection.id)
      record('peer:identify', this.#summary(detail.connection))
    })
    node.addEventListener('transport:listening', () => { this.#noteReservation(node) })
  }

  #watchMessages (node: Libp2p<Services>): void {
    node.services.pubsub.addEventListener('gossipsub:message', ({ detail }) => {
      this.#messages.push(this.#describeMessage(detail.msgId, detail.propagationSource.toString(), detail.msg))
    })
    node.services.pubsub.addEventListener('subscription-change', ({ detail }) => {
      for (const { topic, subscribe } of detail.subscriptions) {
        record('subscription', `${detail.peerId.toString()} ${subscribe ? '+' : '-'}${topic}`)
      }
    })
  }

  #describeMessage (id: string, via: string, message: GossipsubMessage['msg']): Message {
    const binary = message.topic.includes('_peer-discovery')
    return {
      id,
      topic: message.topic,
      from: message.type === 'signed' ? message.from.toString() : '',
      via,
      size: message.data.byteLength,
      text: binary ? '' : decoder.decode(message.data.subarray(0, 200)).trimEnd(),
      at: now()
    }
  }

  #onDiscovery (node: Libp2p<Services>, { id, multiaddrs }: PeerInfo): void {
    const peer = id.toString()
    this.#discovered.push({ peer, addresses: multiaddrs.map(String).slice(0, 100), at: now() })
    record('peer:discovery', `${peer} ${multiaddrs.length} addresses`)
    const dialable = multiaddrs.filter((address) => WebRTC.exactMatch(address))
    // js-libp2p emits the event also for the relay and for peers that connect to us.
    if (dialable.length > 0) {
      this.#mark('discovered')
    }
    // Whoever already has a connection, be it a relayed one, is being dialled by the other side.
    if (!this.#dialDiscovered || dialable.length === 0 || node.getConnections(id).length > 0 || this.#dialling.has(peer)) {
      return
    }
    this.#dial(node, peer, dialable).catch(() => { /* recorded in #dials */ })
  }

  async #dial (node: Libp2p<Services>, peer: string, addresses: Multiaddr[]): Promise<number> {
    const dial: Dial = { peer, startedAt: now(), endedAt: 0, error: '' }
    this.#dials.push(dial)
    this.#dialling.add(peer)
    this.#mark('dialled')
    record('dial', `${peer} ${addresses.map(String).join(' ')}`)
    try {
      await node.dial(addresses)
      return now() - dial.startedAt
    } catch (error) {
      dial.error = describe(error)
      throw error
    } finally {
      dial.endedAt = now()
      this.#dialling.delete(peer)
      record('dialled', `${peer} ${dial.error === '' ? 'ok' : dial.error}`)
    }
  }

  #summary (connection: Connection): string {
    const limited = connection.limits == null ? '' : ' limited'
    return `${connection.direction} ${connection.remoteAddr.toString()}${limited}`
  }

  #describe (connection: Connection): ConnectionState {
    return {
      id: connection.id,
      peer: connection.remotePeer.toString(),
      address: connection.remoteAddr.toString(),
      direction: connection.direction,
      status: connection.status,
      limited: connection.limits != null,
      identified: this.#identified.has(connection.id),
      openedAt: connection.timeline.open,
      streams: connection.streams.map((stream) => stream.protocol)
    }
  }
}
