// Everything that runs once the relay's address is known.
import { BreakdownClock } from './breakdown.js'
import { Chat } from './chat.js'
import { Mesh } from './mesh.js'
import { startNode, type Node } from './node.js'
import { Peers } from './peers.js'
import { Pinger } from './pinger.js'
import { readRelayInfo, type RelayInfo } from './relay-info.js'
import { RelayLink } from './relay-link.js'

/** How often timers are looked at: retries, pings, countdowns. */
const TICK_MS = 500

export interface App {
  node: Node
  relay: RelayLink
  peers: Peers
  pinger: Pinger
  mesh: Mesh
  chat: Chat
}

export async function startApp (info: RelayInfo, clock: BreakdownClock, changed: () => void): Promise<App> {
  // the relay may name other STUN servers when it is asked again
  let stun = info.stun
  const node = await startNode(info.topics, () => stun.length > 0 ? [{ urls: stun }] : [])
  clock.mark('libp2p')
  const relay = new RelayLink(node, info, async () => {
    const fresh = await readRelayInfo(new URL(location.href))
    stun = fresh.stun
    return fresh
  }, changed)
  const peers = new Peers(node, relay, info.topics, changed)
  const app = {
    node,
    relay,
    peers,
    pinger: new Pinger(node, changed),
    mesh: new Mesh(node, info.chatTopic, changed),
    chat: new Chat(node, info.chatTopic, relay, changed)
  }
  app.pinger.onAnswer = conn => { peers.prove(conn) }
  peers.onDirect = peer => { clock.direct(peer.id, peer.first, peer.flow) }
  void relay.run()
  wakeUp(relay)
  setInterval(() => {
    app.pinger.tick()
    peers.tick()
    changed()
  }, TICK_MS)
  return app
}

/** Someone who comes back to the tab, or online, does not want to wait for a timer. */
function wakeUp (relay: RelayLink): void {
  addEventListener('online', () => { relay.retryNow() })
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') {
      relay.retryNow()
    }
  })
}
