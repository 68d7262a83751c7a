// The entry point of a browser page. Like an application it starts by itself when
// it is loaded; its configuration is in the fragment of its address.
import { Peer, type Config } from './peer.ts'
import { watch } from './probe.ts'

declare global {
  interface Window {
    peer: Peer
    started: Promise<string>
  }
}

const config = JSON.parse(decodeURIComponent(location.hash.slice(1))) as Config

watch(RTCPeerConnection)
window.peer = new Peer()
window.started = window.peer.start(config)
