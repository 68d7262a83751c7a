// js-libp2p's relay with its limits raised, for benchmarks: prints its address, ends with stdin.
import { noise } from '@libp2p/noise'
import { circuitRelayServer } from '@libp2p/circuit-relay-v2'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { yamux } from '@libp2p/yamux'
import { webSockets } from '@libp2p/websockets'
import { createLibp2p } from 'libp2p'

const topic = '_peer-discovery._p2p._pubsub'

const node = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0/ws'] },
  transports: [webSockets()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionManager: { maxConnections: 100_000, inboundConnectionThreshold: Infinity, maxIncomingPendingConnections: 10_000 },
  services: {
    identify: identify(),
    pubsub: gossipsub(),
    relay: circuitRelayServer({
      maxInboundHopStreams: 100_000,
      maxOutboundStopStreams: 100_000,
      reservations: { maxReservations: Infinity, applyDefaultLimit: false }
    })
  }
})
node.services.pubsub.subscribe(topic)
console.log(JSON.stringify({ addr: node.getMultiaddrs()[0]!.toString() }))
process.stdin.on('end', () => { process.exit(0) }).resume()
