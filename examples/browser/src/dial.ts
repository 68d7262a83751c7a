// One dial to another page, with its limits, and what a failure means.
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Node } from './node.js'
import { errorText } from './trouble.js'

/** js-libp2p's own limits are 6 s an address and 10 s in all. */
const DIAL_MS = 15_000

/**
 * How long the first tries may take from the answer on. When the dialler misses
 * the "open" of the handshake's data channel, js-libp2p waits for it until its
 * limit of 6 s; another try mostly works. Later ones get all the time there is,
 * for networks that are slow in earnest.
 */
const HANDSHAKE_MS = 3000
const HASTY_TRIES = 2

export async function dial (node: Node, addrs: Multiaddr[], attempt: number, progress: (type: string) => void): Promise<void> {
  const stop = new AbortController()
  const giveUp = (): void => { stop.abort(new Error('timed out')) }
  const timers = [setTimeout(giveUp, DIAL_MS)]
  try {
    await node.dial(addrs, {
      signal: stop.signal,
      // the type of dial() knows the events of no transport
      onProgress: ({ type }: { type: string }) => {
        progress(type)
        if (attempt <= HASTY_TRIES && type === 'webrtc:read-ice-candidates') {
          timers.push(setTimeout(giveUp, HANDSHAKE_MS))
        }
      }
    })
  } finally {
    timers.forEach(clearTimeout)
  }
}

const MEANINGS: Array<[RegExp, string]> = [
  [/NO_RESERVATION/, 'the relay holds no reservation of it, so it has probably left'],
  [/RESOURCE_LIMIT_EXCEEDED/, 'the relay has no circuit to spare for it now'],
  [/CONNECTION_FAILED/, 'the relay could not reach it'],
  [/PERMISSION_DENIED/, 'the relay does not allow it'],
  [/timed? ?out|aborted/i, 'no direct path was found in time']
]

/** The relay would know a peer that is still there. */
export function hasLeft (err: unknown): boolean {
  return /NO_RESERVATION/.test(errorText(err))
}

export function dialTrouble (err: unknown): string {
  const text = errorText(err)
  return MEANINGS.find(([pattern]) => pattern.test(text))?.[1] ?? text
}
