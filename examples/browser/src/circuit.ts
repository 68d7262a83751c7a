// Takes reservations on a relay, again and again if need be.
import type { Listener } from '@libp2p/interface'
import type { Multiaddr } from '@multiformats/multiaddr'

/** What a js-libp2p service is given of the transport manager, as far as it is used here. */
interface Transports {
  listen (addrs: Multiaddr[]): Promise<void>
  getListeners (): Listener[]
}

/**
 * js-libp2p reserves on a configured relay once, when the node starts, and
 * start() fails if the relay is not there; when the relay comes back nothing
 * reserves again (js-libp2p issue 3601). A service may listen at any time, so
 * this one does what `addresses.listen` would have done, whenever it is asked.
 */
export class CircuitListener {
  #transports: Transports
  #listener: Listener | undefined

  constructor (components: { transportManager: Transports }) {
    this.#transports = components.transportManager
  }

  /** Resolves once the relay has given a reservation; throws why it did not. */
  async reserve (relay: Multiaddr): Promise<void> {
    const addr = relay.encapsulate('/p2p-circuit')
    if (this.#listener === undefined) {
      const others = new Set(this.#transports.getListeners())
      try {
        await this.#transports.listen([addr])
        return
      } catch {
        // one text made of stack traces; the listener says below what it is
      } finally {
        // it stays listed even if it failed
        this.#listener = this.#transports.getListeners().find(l => !others.has(l))
      }
    }
    await this.#listener?.listen(addr)
  }
}
