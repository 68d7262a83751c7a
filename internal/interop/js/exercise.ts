// The test protocols, served and driven: ../exercise describes them and is the
// same in Go.
import type { Connection, Stream } from '@libp2p/interface'
import type { Libp2p } from 'libp2p'
import { describe, now } from './events.ts'

export const protocols = {
  echo: '/tango/test/echo/1',
  sink: '/tango/test/sink/1',
  source: '/tango/test/source/1',
  reset: '/tango/test/reset/1',
  halfclose: '/tango/test/halfclose/1'
} as const

/** How a direction of a stream ended: "eof", "reset", or an error's words. */
export type Ending = string

/** A stream that another peer has opened, once nothing more comes. */
export interface Received {
  protocol: string
  peer: string
  bytes: number
  /** Empty for echo, of which a test opens thousands. */
  sha256: string
  end: Ending
  at: number
}

export interface Outcome {
  ok: number
  failed: number
  /** The first few. */
  errors: string[]
  ms: number
}

export interface Transfer {
  bytes: number
  sha256: string
  ms: number
}

export interface HalfClosed {
  greeting: string
  /** How the other side's direction ended, before anything was sent to it. */
  end: Ending
  bytes: number
  sha256: string
}

const greeting = 'your turn\n'
// More than this at once js-libp2p refuses on its own: 32 in and 64 out a protocol and connection.
const maxStreams = 128
// A stream that takes longer has failed; 64 MiB took 5 s between two Firefoxes.
const streamTimeoutMs = 60_000
// 100 at once, of 64 KiB, took a busy Chromium 11 s.
const echoTimeoutMs = 30_000
const chunkBytes = 64 << 10
// 1,500 echo streams and what a test does besides.
const keptReceived = 4000
// Enough to see what is wrong; each may take echoTimeoutMs.
const maxFailures = 5

const decoder = new TextDecoder()
const encoder = new TextEncoder()

/** Xorshift32 (Marsaglia 2003; 13, 17, 5) from a seed that is not 0, each state as 4 bytes, the least significant first. */
export function pseudorandom (seed: number, bytes: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes / 4)) // little-endian on all that runs a browser here
  let x = seed >>> 0
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13
    x ^= x >>> 17
    x ^= x << 5
    words[i] = x
  }
  return new Uint8Array(words.buffer, 0, bytes)
}

async function sha256 (data: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', data as Uint8Array<ArrayBuffer>))
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('')
}

function same (a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && a.every((byte, i) => byte === b[i])
}

/**
 * Takes what a stream brings as it comes, for js-libp2p cannot slow a sender
 * down and gives up a stream with 4 MiB unread. It has to be made at once when
 * there is a stream.
 */
class Inbox {
  readonly #chunks: Uint8Array[] = []
  readonly #ended = Promise.withResolvers<Ending>()
  bytes = 0

  constructor (stream: Stream, onData?: (data: Uint8Array) => void) {
    stream.addEventListener('message', ({ data }) => {
      const chunk = data.subarray()
      this.bytes += chunk.byteLength
      onData == null ? this.#chunks.push(chunk) : onData(chunk)
    })
    // `end` comes after the last message, also before the `close` of a reset.
    const end = (): void => { this.#ended.resolve(stream.status === 'reset' ? 'reset' : 'eof') }
    stream.addEventListener('end', end)
    stream.addEventListener('close', ({ error }) => {
      this.#ended.resolve(error == null ? 'eof' : error.name === 'StreamResetError' ? 'reset' : describe(error))
    })
    if (stream.readableEnded) {
      end()
    }
  }

  async end (): Promise<Ending> {
    return await this.#ended.promise
  }

  all (): Uint8Array {
    const whole = new Uint8Array(this.bytes)
    let offset = 0
    for (const chunk of this.#chunks) {
      whole.set(chunk, offset)
      offset += chunk.byteLength
    }
    return whole
  }

  /** What has come up to its end, which must not be a reset. */
  async whole (): Promise<Uint8Array> {
    const end = await this.end()
    if (end !== 'eof') {
      throw new Error(`the stream ended with ${end} after ${this.bytes} bytes`)
    }
    return this.all()
  }
}

/** Resolves when there is room again. Stream.onDrain() does so once only: it keeps its first promise. */
async function drained (stream: Stream): Promise<void> {
  if (!stream.writableNeedsDrain) {
    return
  }
  await new Promise<void>((resolve, reject) => {
    const off = (): void => {
      stream.removeEventListener('drain', onDrain)
      stream.removeEventListener('close', onClose)
    }
    const onDrain = (): void => { off(); resolve() }
    const onClose = (): void => { off(); reject(new Error(`the stream is ${stream.status} before all was sent`)) }
    stream.addEventListener('drain', onDrain)
    stream.addEventListener('close', onClose)
  })
}

async function sendAll (stream: Stream, data: Uint8Array): Promise<void> {
  for (let offset = 0; offset < data.byteLength; offset += chunkBytes) {
    await drained(stream)
    stream.send(data.subarray(offset, offset + chunkBytes))
  }
}

/** Ends our direction. js-libp2p's own limit for the FIN_ACK is 10 s, which a lossy path can take. */
async function finish (stream: Stream): Promise<void> {
  await stream.close({ signal: AbortSignal.timeout(streamTimeoutMs) })
}

/** Runs a client on a stream of its own, and resets that if the client fails. */
async function withStream<T> (connection: Connection, protocol: string, run: (stream: Stream, inbox: Inbox) => Promise<T>): Promise<T> {
  const limit = protocol === protocols.echo ? echoTimeoutMs : streamTimeoutMs
  const signal = AbortSignal.timeout(limit)
  const stream = await connection.newStream(protocol, { signal, maxOutboundStreams: maxStreams })
  const inbox = new Inbox(stream)
  const late = (): void => { stream.abort(new Error(`not done within ${limit} ms`)) }
  signal.addEventListener('abort', late)
  try {
    return await run(stream, inbox)
  } catch (error) {
    stream.abort(error as Error)
    throw error
  } finally {
    signal.removeEventListener('abort', late)
  }
}

async function echoOne (connection: Connection, seed: number, size: number): Promise<void> {
  const content = pseudorandom(seed, size)
  await withStream(connection, protocols.echo, async (stream, inbox) => {
    await sendAll(stream, content)
    await finish(stream)
    const back = await inbox.whole()
    if (!same(back, content)) {
      throw new Error(`sent ${size} bytes, other ${back.byteLength} came back`)
    }
  })
}

/** Opens echo streams, each with content of its own, some at once. It opens no more after five have failed. */
export async function streams (connection: Connection, count: number, concurrent: number, size: number): Promise<Outcome> {
  const outcome: Outcome = { ok: 0, failed: 0, errors: [], ms: 0 }
  const started = performance.now()
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count && outcome.failed < maxFailures && connection.status === 'open') {
      const seed = ++next
      try {
        await echoOne(connection, seed, size)
        outcome.ok++
      } catch (error) {
        outcome.failed++
        if (outcome.errors.length < maxFailures) {
          outcome.errors.push(`stream ${seed}: ${describe(error)}`)
        }
      }
    }
  }
  await Promise.all(Array.from({ length: concurrent }, worker))
  outcome.ms = performance.now() - started
  return outcome
}

/** Sends bytes and returns what the other side says that it received; its hashing is part of the time. */
export async function upload (connection: Connection, bytes: number, seed: number): Promise<Transfer> {
  const content = pseudorandom(seed, bytes)
  const want = await sha256(content)
  const started = performance.now()
  return await withStream(connection, protocols.sink, async (stream, inbox) => {
    await sendAll(stream, content)
    await finish(stream)
    const got = JSON.parse(decoder.decode(await inbox.whole())) as { bytes: number, sha256: string }
    const ms = performance.now() - started
    if (got.bytes !== bytes || got.sha256 !== want) {
      throw new Error(`sent ${bytes} bytes ${want}, the sink has ${got.bytes} bytes ${got.sha256}`)
    }
    return { ...got, ms }
  })
}

export async function download (connection: Connection, bytes: number, seed: number): Promise<Transfer> {
  const want = await sha256(pseudorandom(seed, bytes))
  const started = performance.now()
  return await withStream(connection, protocols.source, async (stream, inbox) => {
    stream.send(encoder.encode(`${JSON.stringify({ bytes, seed })}\n`))
    await finish(stream)
    const content = await inbox.whole()
    const ms = performance.now() - started
    const got = await sha256(content)
    if (got !== want) {
      throw new Error(`wanted ${bytes} bytes ${want}, ${content.byteLength} bytes ${got} came`)
    }
    return { bytes: content.byteLength, sha256: got, ms }
  })
}

/** Sends only once the other side has closed its direction. */
export async function halfClose (connection: Connection, bytes: number, seed: number): Promise<HalfClosed> {
  const content = pseudorandom(seed, bytes)
  return await withStream(connection, protocols.halfclose, async (stream, inbox) => {
    const end = await inbox.end()
    await sendAll(stream, content)
    await finish(stream)
    return { greeting: decoder.decode(inbox.all()), end, bytes, sha256: await sha256(content) }
  })
}

/** How a stream ends that the other side resets. */
export async function resetSeen (connection: Connection): Promise<Ending> {
  return await withStream(connection, protocols.reset, async (stream, inbox) => {
    stream.send(Uint8Array.of(1))
    const end = await inbox.end()
    if (stream.status === 'open') {
      await finish(stream)
    }
    return end
  })
}

type Handler = (stream: Stream) => Promise<Omit<Received, 'protocol' | 'peer' | 'at'>>

async function echo (stream: Stream): ReturnType<Handler> {
  // No waiting for room: js-libp2p could not slow the sender down anyway, so what does not fit waits in its queue.
  const inbox = new Inbox(stream, (chunk) => {
    try {
      stream.send(chunk)
    } catch (error) { // data behind the end, which would end Node uncaught
      stream.abort(error as Error)
    }
  })
  const end = await inbox.end()
  await finish(stream)
  return { bytes: inbox.bytes, sha256: '', end }
}

async function sink (stream: Stream): ReturnType<Handler> {
  const inbox = new Inbox(stream)
  const end = await inbox.end()
  const got = { bytes: inbox.bytes, sha256: await sha256(inbox.all()) }
  if (end === 'eof') {
    stream.send(encoder.encode(`${JSON.stringify(got)}\n`))
    await finish(stream)
  }
  return { ...got, end }
}

async function source (stream: Stream): ReturnType<Handler> {
  const line = Promise.withResolvers<string>()
  let request = ''
  const inbox = new Inbox(stream, (chunk) => {
    request += decoder.decode(chunk)
    if (request.includes('\n')) {
      line.resolve(request)
    }
  })
  void inbox.end().then((end) => { line.reject(new Error(`no request before ${end}`)) })
  const { bytes, seed } = JSON.parse(await line.promise) as { bytes: number, seed: number }
  await sendAll(stream, pseudorandom(seed, bytes))
  await finish(stream)
  return { bytes: inbox.bytes, sha256: await sha256(encoder.encode(request)), end: await inbox.end() }
}

async function reset (stream: Stream): ReturnType<Handler> {
  const first = Promise.withResolvers<void>()
  const inbox = new Inbox(stream, () => { first.resolve() })
  void inbox.end().then(() => { first.resolve() })
  await first.promise
  const got = { bytes: inbox.bytes, sha256: '', end: 'reset here' }
  stream.abort(new Error('the test wants a reset'))
  return got
}

async function halfclose (stream: Stream): ReturnType<Handler> {
  const inbox = new Inbox(stream)
  stream.send(encoder.encode(greeting))
  await finish(stream)
  const end = await inbox.end()
  return { bytes: inbox.bytes, sha256: await sha256(inbox.all()), end }
}

const handlers: Record<string, Handler> = {
  [protocols.echo]: echo,
  [protocols.sink]: sink,
  [protocols.source]: source,
  [protocols.reset]: reset,
  [protocols.halfclose]: halfclose
}

/** Serves the test protocols and keeps a record of what came. */
export async function serve (node: Libp2p): Promise<Received[]> {
  const received: Received[] = []
  for (const [protocol, handler] of Object.entries(handlers)) {
    await node.handle(protocol, (stream, connection) => {
      const keep = (got: Omit<Received, 'protocol' | 'peer' | 'at'>): void => {
        received.push({ protocol, peer: connection.remotePeer.toString(), at: now(), ...got })
        if (received.length > keptReceived) {
          received.shift()
        }
      }
      handler(stream).then(keep, (error: unknown) => {
        keep({ bytes: 0, sha256: '', end: describe(error) })
        stream.abort(error as Error)
      })
    }, { maxInboundStreams: maxStreams, maxOutboundStreams: maxStreams })
  }
  return received
}
