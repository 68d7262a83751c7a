// How an application presents an invite to its relays with nothing but what
// js-libp2p has.
import type { Connection, Libp2p } from '@libp2p/interface'
import { describe, record } from './events.ts'

const protocol = '/tango/invite/1.0.0'
const decoder = new TextDecoder()
const encoder = new TextEncoder()

/**
 * Presents the token on each new connection to one of the relays. js-libp2p asks for its reservation at the same time;
 * the relay waits for the token if it comes later, which a test can force.
 */
export function presentTo (node: Libp2p, relays: string[], token: string, afterMs: number): void {
  node.addEventListener('connection:open', ({ detail: connection }) => {
    if (connection.limits != null || !relays.some((relay) => relay.endsWith(`/p2p/${connection.remotePeer.toString()}`))) {
      return
    }
    const start = async (): Promise<string> => {
      if (afterMs > 0) {
        await new Promise((resolve) => setTimeout(resolve, afterMs))
        return await presentBlindly(connection, token)
      }
      return await present(connection, token)
    }
    start().then((answer) => { record('invite', answer) }, (error: unknown) => { record('invite', describe(error)) })
  })
}

/** The lines of the documentation of package relay. */
async function presentBlindly (connection: Connection, token: string): Promise<string> {
  const stream = await connection.newStream(protocol)
  stream.send(encoder.encode(`${token}\n`))
  await stream.close()
  return 'presented'
}

/** Returns the relay's answer: "ok", or "no" and why. */
async function present (connection: Connection, token: string): Promise<string> {
  const stream = await connection.newStream(protocol)
  const answer = Promise.withResolvers<string>()
  let text = ''
  stream.addEventListener('message', ({ data }) => {
    text += decoder.decode(data.subarray())
    if (text.endsWith('\n')) {
      answer.resolve(text.trimEnd())
    }
  })
  stream.addEventListener('close', () => { answer.reject(new Error('the relay does not answer')) })
  stream.send(encoder.encode(`${token}\n`))
  try {
    return await answer.promise
  } finally {
    await stream.close()
  }
}
