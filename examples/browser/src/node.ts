// The js-libp2p node: stock modules, and the reasons for each setting.
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { gossipsub, type GossipSub } from '@libp2p/gossipsub'
import { identify, identifyPush, type Identify, type IdentifyPush } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping, type Ping } from '@libp2p/ping'
import { pubsubPeerDiscovery } from '@libp2p/pubsub-peer-discovery'
import { webRTC } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import { CircuitListener } from './circuit.js'

/**
 * How often this page announces itself. js-libp2p skips its first announcement
 * while it knows no subscriber, so this is also how long a page that others
 * cannot find yet may wait; 10 s, the default, is long for someone who watches.
 */
export const ANNOUNCE_MS = 2000

/** Announcements and chat lines are far smaller; nobody can make us decode more. */
const MAX_GOSSIP_BYTES = 16 * 1024

export type Services = {
  identify: Identify
  identifyPush: IdentifyPush
  ping: Ping
  pubsub: GossipSub
  circuit: CircuitListener
}

export type Node = Libp2p<Services>

export async function startNode (topics: string[], iceServers: () => RTCIceServer[]): Promise<Node> {
  return createLibp2p<Services>({
    // circuit addresses come and go with the relay, see circuit.ts
    addresses: { listen: ['/webrtc'] },
    transports: [
      webSockets(),
      circuitRelayTransport(),
      // without this js-libp2p asks four public STUN servers
      webRTC({ rtcConfiguration: () => ({ iceServers: iceServers() }) })
    ],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    peerDiscovery: [pubsubPeerDiscovery({ topics, interval: ANNOUNCE_MS })],
    services: {
      identify: identify(),
      identifyPush: identifyPush(),
      ping: ping(),
      // gossipsub stays off limited connections by default, so that chat runs
      // on direct ones and goes on without the relay
      pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, maxInboundDataLength: MAX_GOSSIP_BYTES }),
      circuit: components => new CircuitListener(components)
    },
    // js-libp2p denies private addresses and plain ws:// by default. This page
    // is shown on one machine and in local networks, where those are the ones.
    connectionGater: { denyDialMultiaddr: () => false },
    // its monitor drops a connection after one lost ping; pinger.ts is calmer
    connectionMonitor: { enabled: false },
    // relay-link.ts decides when to dial the relay again
    connectionManager: { reconnectRetries: 0 }
  })
}
