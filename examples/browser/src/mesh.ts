// Who is in this page's GossipSub mesh of a topic.
import type { Node } from './node.js'

export class Mesh {
  #members = new Set<string>()

  constructor (node: Node, topic: string, changed: () => void) {
    const { pubsub } = node.services
    pubsub.addEventListener('gossipsub:graft', ({ detail }) => {
      if (detail.topic === topic) {
        this.#members.add(detail.peerId)
        changed()
      }
    })
    pubsub.addEventListener('gossipsub:prune', ({ detail }) => {
      if (detail.topic === topic) {
        this.#members.delete(detail.peerId)
        changed()
      }
    })
    // no prune is told of a peer that went away
    node.addEventListener('peer:disconnect', ({ detail }) => {
      this.#members.delete(detail.toString())
      changed()
    })
  }

  has (peer: string): boolean {
    return this.#members.has(peer)
  }
}
