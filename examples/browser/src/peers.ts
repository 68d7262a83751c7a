// The other pages: who was heard of, who is connected, whom to dial and when.
import type { Connection, PeerId } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'
import { WebRTC } from '@multiformats/multiaddr-matcher'
import { dial, dialTrouble, hasLeft, HASTY_TRIES, pathTrouble } from './dial.js'
import { Flow } from './flow.js'
import type { Node } from './node.js'
import { isRelayed, pathOf, type Path } from './path.js'
import { askStun } from './stun.js'

/**
 * How many direct peers this page looks for; more may come in. GossipSub
 * reaches the others through these, a browser tab affords only so many
 * RTCPeerConnections, and js-libp2p counts every peer dialled through one
 * relay as sharing the relay's IP address, which gossipsub's default scoring
 * begins to hold against them above ten.
 */
const DIRECT_CAP = 8

/** Of one peer's addresses: they all lead through a relay, mostly ours. */
const ADDRS_CAP = 3

const TABLE_CAP = 64

/** Two and a half announcements of a stock js-libp2p peer (10 s). */
const SILENT_MS = 25_000

/** js-libp2p allows itself 10 s for a dial; who called us through the relay gets that long. */
const THEIR_TURN_MS = 12_000

/**
 * How long a dial has the page for itself. When js-libp2p dials several peers
 * at once it easily misses the "open" of a handshake's data channel and waits
 * for it until its limit of 6 s. One after the other nearly always works.
 */
const ALONE_MS = 1500

const FORGET_MS = 120_000

const RETRY_MIN_MS = 500
const RETRY_MAX_MS = 30_000

export interface Peer {
  readonly id: string
  readonly peerId: PeerId
  addrs: Multiaddr[]
  /** first and last sign of life that came without a connection */
  first: number
  heard: number
  lost?: number
  dialling: boolean
  dialled: number
  tries: number
  nextTry: number
  theirTurn: number
  error?: string
  flow?: Flow
}

/** What is needed of the relay's link. */
interface Relay { id: string, connected: boolean, info: { stun: string[] } }

export class Peers {
  readonly table = new Map<string, Peer>()
  onDirect?: (peer: Peer, conn: Connection) => void
  #node: Node
  #relay: Relay
  #changed: () => void
  /** inbound direct connections through which something came */
  #proved = new WeakSet<Connection>()

  /** relay is whose circuits are dialled; discovery the topics whose messages are signs of life. */
  constructor (node: Node, relay: Relay, discovery: string[], changed: () => void) {
    this.#node = node
    this.#relay = relay
    this.#changed = changed
    node.addEventListener('peer:discovery', ({ detail }) => { this.#hear(detail.id, detail.multiaddrs) })
    // peer:discovery tells of each peer once; these tell that it is still there
    node.services.pubsub.addEventListener('message', ({ detail }) => {
      if (detail.type === 'signed' && discovery.includes(detail.topic)) {
        void this.#hearAgain(detail.from)
      }
    })
    node.addEventListener('peer:identify', ({ detail }) => { this.prove(detail.connection) })
    node.addEventListener('connection:open', ({ detail }) => { this.#opened(detail) })
    node.addEventListener('connection:close', ({ detail }) => { this.#closed(detail) })
  }

  connections (peer: Peer): Connection[] {
    return this.#node.getConnections(peer.peerId).filter(c => c.status === 'open' && this.#real(c))
  }

  /** An answer came through a connection. */
  prove (conn: Connection): void {
    if (!this.#real(conn)) {
      this.#proved.add(conn)
      this.#opened(conn)
    }
  }

  /**
   * js-libp2p takes an inbound dial that its dialler gives up for a connection
   * (@libp2p/webrtc 6.0.33, private-to-private/util.ts: the end of the signaling
   * stream looks like success), so those must prove themselves.
   */
  #real (conn: Connection): boolean {
    return isRelayed(conn) || conn.direction === 'outbound' || this.#proved.has(conn)
  }

  path (peer: Peer): Path {
    return pathOf(this.connections(peer))
  }

  directCount (): number {
    return [...this.table.values()].filter(p => this.path(p) === 'direct').length
  }

  /** True if only {@link DIRECT_CAP} keeps this page from dialling. */
  get full (): boolean {
    return [...this.table.values()].filter(p => p.dialling || this.path(p) === 'direct').length >= DIRECT_CAP
  }

  /** Called a few times a second: retries what is due and forgets who is gone. */
  tick (): void {
    const now = performance.now()
    for (const peer of this.table.values()) {
      if (this.path(peer) === 'none' && !peer.dialling && now - Math.max(peer.heard, peer.lost ?? 0) > FORGET_MS) {
        this.#forget(peer)
      } else {
        this.#consider(peer)
      }
    }
  }

  /** Has not been heard of for so long that it must have left. */
  silent (peer: Peer): boolean {
    return performance.now() - peer.heard > SILENT_MS || peer.heard < (peer.lost ?? 0)
  }

  #hear (id: PeerId, addrs: Multiaddr[]): void {
    const dialable = addrs.map(a => whole(a, id)).filter(viaRelay)
    if (dialable.length === 0 || this.#isRelay(id)) {
      return
    }
    const peer = this.#entry(id)
    if (this.silent(peer)) {
      peer.first = performance.now() // it is back
    }
    peer.heard = performance.now()
    peer.addrs = this.#best(dialable)
    this.#consider(peer)
    this.#changed()
  }

  async #hearAgain (id: PeerId): Promise<void> {
    if (this.#isRelay(id) || id.equals(this.#node.peerId)) {
      return
    }
    try {
      // js-libp2p writes the announced addresses there at the same time
      const { addresses } = await this.#node.peerStore.get(id)
      this.#hear(id, addresses.map(a => a.multiaddr))
    } catch {
      // not written yet: peer:discovery follows
    }
  }

  #entry (id: PeerId): Peer {
    const key = id.toString()
    let peer = this.table.get(key)
    if (peer === undefined) {
      this.#makeRoom()
      const now = performance.now()
      peer = { id: key, peerId: id, addrs: [], first: now, heard: now, dialling: false, dialled: 0, tries: 0, nextTry: 0, theirTurn: 0 }
      this.table.set(key, peer)
    }
    return peer
  }

  #makeRoom (): void {
    if (this.table.size < TABLE_CAP) {
      return
    }
    const idle = [...this.table.values()].filter(p => this.path(p) === 'none' && !p.dialling)
    const oldest = idle.sort((a, b) => a.heard - b.heard)[0]
    if (oldest !== undefined) {
      this.#forget(oldest)
    }
  }

  #forget (peer: Peer): void {
    this.table.delete(peer.id)
    // else js-libp2p would keep every peer of the last days
    this.#node.peerStore.delete(peer.peerId).catch(() => {})
    this.#changed()
  }

  /** Through our own relay first: we are connected to it already. */
  #best (addrs: Multiaddr[]): Multiaddr[] {
    const ours = (a: Multiaddr): boolean => a.getComponents().some(c => c.name === 'p2p' && c.value === this.#relay.id)
    return [...addrs.filter(ours), ...addrs.filter(a => !ours(a))].slice(0, ADDRS_CAP)
  }

  #consider (peer: Peer): void {
    const now = performance.now()
    const reachable = this.#relay.connected && peer.addrs.length > 0 && !this.silent(peer)
    const wanted = !peer.dialling && this.path(peer) !== 'direct'
    if (reachable && wanted && now >= peer.nextTry && now >= peer.theirTurn && !this.full && !this.#busy()) {
      void this.#dial(peer)
    }
  }

  #busy (): boolean {
    const since = performance.now() - ALONE_MS
    return [...this.table.values()].some(p => p.dialling && p.dialled > since)
  }

  async #dial (peer: Peer): Promise<void> {
    peer.dialling = true
    peer.dialled = performance.now()
    peer.tries++
    const flow = peer.flow = new Flow('dialler', peer.tries)
    if (peer.tries === 1) {
      flow.begin('discovered', peer.first)
    }
    flow.begin('relayed')
    this.#changed()
    try {
      await dial(this.#node, peer.addrs, peer.tries, type => {
        flow.progress(type)
        this.#changed()
      })
      flow.finish('connected')
      peer.tries = 0
    } catch (err) {
      peer.error = dialTrouble(err)
      flow.finish('failed', peer.error)
      if (hasLeft(err)) {
        peer.lost = performance.now()
      } else if (peer.tries > HASTY_TRIES && flow.steps.at(-1)?.name === 'candidates') {
        void this.#explain(peer, flow)
      }
      console.debug('tango: dial failed', peer.id, err)
      peer.nextTry = performance.now() + Math.min(RETRY_MAX_MS, RETRY_MIN_MS * 2 ** (peer.tries - 1))
    } finally {
      peer.dialling = false
      this.tick() // the next one's turn
      this.#changed()
    }
  }

  /** Says why there is no direct path, unless there is one meanwhile. */
  async #explain (peer: Peer, flow: Flow): Promise<void> {
    const why = pathTrouble(await askStun(this.#relay.info.stun))
    if (peer.error !== undefined) {
      peer.error = flow.why = why
      this.#changed()
    }
  }

  #opened (conn: Connection): void {
    if (this.#isRelay(conn.remotePeer) || !this.#real(conn)) {
      return
    }
    const peer = this.#entry(conn.remotePeer)
    delete peer.lost
    if (isRelayed(conn)) {
      this.#openedRelayed(peer, conn)
    } else {
      this.#openedDirect(peer, conn)
    }
    this.#changed()
  }

  #openedRelayed (peer: Peer, conn: Connection): void {
    if (conn.direction !== 'inbound') {
      return
    }
    peer.heard = performance.now()
    peer.theirTurn = peer.heard + THEIR_TURN_MS
    if (!peer.dialling) {
      peer.flow = new Flow('listener', 1)
      peer.flow.begin('relayed-in')
    }
  }

  #openedDirect (peer: Peer, conn: Connection): void {
    if (conn.direction === 'inbound' && !peer.dialling) {
      if (peer.flow?.role !== 'listener') {
        peer.flow = new Flow('listener', 1) // it came back over a circuit of ours
      }
      peer.flow.begin('connected-in')
      peer.flow.finish('connected')
    }
    peer.tries = peer.dialling ? peer.tries : 0
    peer.nextTry = 0
    peer.theirTurn = 0
    delete peer.error
    this.onDirect?.(peer, conn)
  }

  #closed (conn: Connection): void {
    const peer = this.table.get(conn.remotePeer.toString())
    if (peer === undefined || !this.#real(conn)) {
      return
    }
    if (!isRelayed(conn) && this.path(peer) !== 'direct') {
      peer.lost = performance.now()
      peer.tries = 0
    }
    this.#changed()
  }

  #isRelay (id: PeerId): boolean {
    return id.toString() === this.#relay.id
  }
}

/** Identify's addresses lack the peer id at the end, and dial() refuses to mix the two kinds. */
function whole (addr: Multiaddr, id: PeerId): Multiaddr {
  const last = addr.getComponents().at(-1)
  return last?.name === 'webrtc' ? addr.encapsulate(`/p2p/${id}`) : addr
}

/** Not /webrtc/p2p/<id>, the bare name of a connection that came in. */
function viaRelay (addr: Multiaddr): boolean {
  return WebRTC.exactMatch(addr) && addr.getComponents().some(c => c.name === 'p2p-circuit')
}
