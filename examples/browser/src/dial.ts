// One dial to another page, with its limits, and what a failure means.
import type { Multiaddr } from '@multiformats/multiaddr'
import type { Node } from './node.js'
import type { Stun } from './stun.js'
import { errorText } from './trouble.js'

/** js-libp2p's own limits are 6 s an address and 10 s in all. */
const DIAL_MS = 15_000

/**
 * How long the first tries may take from the answer on. In 5 of 40 page loads
 * in Chromium and Firefox the dialler missed the "open" of the handshake's data
 * channel, for which js-libp2p then waits until its limit of 6 s; another try
 * mostly works. ICE, DTLS and SCTP take some six round trips, which on the
 * direct path are hardly longer than the one of offer and answer through the
 * relay. Later tries get all the time there is.
 */
const HANDSHAKE_MS = 1000
const HANDSHAKE_TRIPS = 6
export const HASTY_TRIES = 2

export async function dial (node: Node, addrs: Multiaddr[], attempt: number, progress: (type: string) => void): Promise<void> {
  const stop = new AbortController()
  const giveUp = (): void => { stop.abort(new Error('timed out')) }
  const timers = [setTimeout(giveUp, DIAL_MS)]
  let offered = 0
  try {
    await node.dial(addrs, {
      signal: stop.signal,
      // the type of dial() knows the events of no transport
      onProgress: ({ type }: { type: string }) => {
        progress(type)
        const now = performance.now()
        if (type === 'webrtc:send-sdp-offer') {
          offered = now
        }
        if (attempt <= HASTY_TRIES && type === 'webrtc:read-ice-candidates') {
          timers.push(setTimeout(giveUp, HANDSHAKE_MS + HANDSHAKE_TRIPS * (now - offered)))
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

/** Why both pages heard each other through the relay and yet found no path. */
const PATH_TROUBLE: Record<Stun, string> = {
  none: 'no direct path was found. Probably you are both behind a NAT, as home routers are, and this relay has no STUN server, which pages need to get through',
  silent: 'no direct path was found. Probably you are both behind a NAT, as home routers are, and the relay’s STUN server, which would help, does not answer you',
  answers: 'no direct path was found, though the relay’s STUN server answers you. A strict NAT or a firewall is in the way, or it does not answer the other page'
}

export function pathTrouble (stun: Stun): string {
  return PATH_TROUBLE[stun]
}
