// Round-trip times, and the end of connections that no longer answer.
import { PING_PROTOCOL } from '@libp2p/ping'
import type { Connection, Stream } from '@libp2p/interface'
import type { Node } from './node.js'
import { isRelayed } from './path.js'

/** Often enough to look alive. */
const DIRECT_EVERY_MS = 3000

/** A ping costs some hundred bytes of the 128 KiB or so that a circuit may carry. */
const RELAYED_EVERY_MS = 10_000

/** The first stream of a new connection is identify's; ours comes after it. */
const FIRST_AFTER_MS = 300

const TIMEOUT_MS = 4000

/**
 * Browsers tell js-libp2p that the other side is gone only when ICE gives up,
 * 16 s (Chromium) or 30 s (Firefox) later. Two lost pings are sooner, and one
 * alone may be a busy tab.
 */
const MISSES_ALLOWED = 1

interface Probe { due: number, busy: boolean, misses: number, rtt?: number }

export class Pinger {
  onAnswer?: (conn: Connection) => void
  #node: Node
  #changed: () => void
  #probes = new WeakMap<Connection, Probe>()

  constructor (node: Node, changed: () => void) {
    this.#node = node
    this.#changed = changed
  }

  rtt (conn: Connection): number | undefined {
    return this.#probes.get(conn)?.rtt
  }

  /** Called a few times a second. */
  tick (): void {
    const now = performance.now()
    for (const conn of this.#node.getConnections()) {
      const probe = this.#probes.get(conn) ?? { due: now + FIRST_AFTER_MS, busy: false, misses: 0 }
      this.#probes.set(conn, probe)
      if (conn.status === 'open' && !probe.busy && now >= probe.due) {
        void this.#measure(conn, probe)
      }
    }
  }

  async #measure (conn: Connection, probe: Probe): Promise<void> {
    probe.busy = true
    try {
      probe.rtt = await roundTrip(conn)
      probe.misses = 0
      this.onAnswer?.(conn)
    } catch (err) {
      // whoever refuses the protocol has answered
      probe.misses = err instanceof Error && err.name === 'UnsupportedProtocolError' ? 0 : probe.misses + 1
      if (probe.misses > MISSES_ALLOWED) {
        conn.abort(new Error('pings went unanswered'))
      }
    } finally {
      probe.busy = false
      const pause = probe.misses > 0 ? 0 : isRelayed(conn) ? RELAYED_EVERY_MS : DIRECT_EVERY_MS
      probe.due = performance.now() + pause
      this.#changed()
    }
  }
}

/** The ping service goes to a peer by whichever connection; this one measures the given one. */
async function roundTrip (conn: Connection): Promise<number> {
  const signal = AbortSignal.timeout(TIMEOUT_MS)
  const stream = await conn.newStream(PING_PROTOCOL, { signal, runOnLimitedConnection: true })
  try {
    const answered = received(stream, 32, signal)
    const start = performance.now()
    stream.send(crypto.getRandomValues(new Uint8Array(32)))
    await answered
    const took = performance.now() - start
    await stream.close({ signal })
    return took
  } catch (err) {
    stream.abort(err instanceof Error ? err : new Error(String(err)))
    throw err
  }
}

async function received (stream: Stream, bytes: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let missing = bytes
    stream.addEventListener('message', event => {
      missing -= event.data.byteLength
      if (missing <= 0) {
        resolve()
      }
    })
    stream.addEventListener('close', () => { reject(new Error('the stream closed')) })
    signal.addEventListener('abort', () => { reject(new Error('no answer in time')) })
  })
}
