// Finds out which relay this page belongs to and how to dial it.
import { multiaddr, type Multiaddr } from '@multiformats/multiaddr'
import { WebSockets, WebSocketsSecure } from '@multiformats/multiaddr-matcher'
import { Trouble, errorText } from './trouble.js'

const DEFAULT_TOPICS = ['tango-demo._peer-discovery._p2p._pubsub']
const DEFAULT_CHAT = 'tango-demo-chat'

/** relay.json is a few hundred bytes from the server of the page itself. */
const FETCH_MS = 5000

export interface RelayInfo {
  id: string
  addr: Multiaddr
  topics: string[]
  chatTopic: string
  /** what one relayed connection may use; absent when the page was given only an address */
  circuit?: { seconds: number, bytes: number }
  stun: string[]
}

/** Reads ?relay= or else relay.json. Throws a {@link Trouble}. */
export async function readRelayInfo (page: URL): Promise<RelayInfo> {
  const given = page.searchParams.getAll('relay')
  if (given.length > 0) {
    return { ...choose(given, page), topics: DEFAULT_TOPICS, chatTopic: DEFAULT_CHAT, stun: [] }
  }
  const url = new URL('relay.json', page)
  const json = await fetchJson(url)
  const addrs = strings(json.addrs)
  if (addrs.length === 0) {
    throw new Trouble('The relay names no address that a browser can dial.', url.href, 'Start the relay with a WebSocket listener.')
  }
  const circuit = limits(json.circuit)
  return {
    ...choose(addrs, page),
    topics: orElse(strings(json.topics), DEFAULT_TOPICS),
    chatTopic: strings(json.forward)[0] ?? DEFAULT_CHAT,
    ...(circuit === undefined ? {} : { circuit }),
    // browsers warn from five servers on, and one answer is enough
    stun: strings(json.stun).filter(s => /^stuns?:/.test(s)).slice(0, 4)
  }
}

async function fetchJson (url: URL): Promise<Record<string, unknown>> {
  const advice = 'This page belongs on the HTTP port of a tango relay. Is the relay running? Without one, add ?relay=<address> to this page’s address.'
  let answer: Response
  try {
    answer = await fetch(url, { signal: AbortSignal.timeout(FETCH_MS), cache: 'no-store' })
  } catch (err) {
    throw new Trouble(`relay.json could not be fetched (${errorText(err)}).`, url.href, advice)
  }
  if (!answer.ok) {
    throw new Trouble(`The server of this page answered ${answer.status} for relay.json.`, url.href, advice)
  }
  try {
    const json: unknown = await answer.json()
    if (typeof json === 'object' && json !== null) {
      return json as Record<string, unknown>
    }
  } catch {
    // said below
  }
  throw new Trouble('relay.json is not what a relay answers.', url.href, advice)
}

function choose (candidates: string[], page: URL): { id: string, addr: Multiaddr } {
  const secureOnly = page.protocol === 'https:'
  const parsed = candidates.map(parse).filter(c => c !== undefined)
  const tried = candidates.slice(0, 4).join(' ')
  if (parsed.length === 0) {
    throw new Trouble('None of the relay’s addresses is a WebSocket address with the relay’s peer id.', tried,
      'A page needs …/ws/p2p/<id> or …/tls/ws/p2p/<id>.')
  }
  // browsers trust loopback even in the clear
  const allowed = parsed.filter(c => !secureOnly || c.secure || isLoopback(c.host))
  const best = allowed.sort((a, b) => fitness(b, page) - fitness(a, page))[0]
  if (best === undefined) {
    throw new Trouble('This page came over https, and browsers then refuse unencrypted WebSockets (mixed content).', tried,
      'Give the relay a TLS address (…/tls/ws), or open the page over http.')
  }
  return best
}

interface Candidate { id: string, addr: Multiaddr, host: string, port: string, secure: boolean }

function parse (text: string): Candidate | undefined {
  try {
    const addr = multiaddr(text)
    const parts = addr.getComponents()
    const secure = WebSocketsSecure.exactMatch(addr)
    const id = parts.findLast(c => c.name === 'p2p')?.value
    if (id === undefined || !(secure || WebSockets.exactMatch(addr))) {
      return undefined
    }
    return { id, addr, host: parts[0]?.value ?? '', port: parts[1]?.value ?? '', secure }
  } catch {
    return undefined
  }
}

/** The page was fetched from this host, so an address there is known to work. */
function fitness (c: Candidate, page: URL): number {
  const host = page.hostname.replace(/^\[|\]$/g, '')
  const sameHost = c.host === host ? 8 : isLoopback(c.host) && isLoopback(host) ? 4 : 0
  const sameScheme = c.secure === (page.protocol === 'https:') ? 2 : 0
  return sameHost + sameScheme + (c.port === page.port ? 1 : 0)
}

function isLoopback (host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}

function limits (value: unknown): RelayInfo['circuit'] {
  const { seconds, bytes } = (value ?? {}) as { seconds?: unknown, bytes?: unknown }
  return typeof seconds === 'number' && typeof bytes === 'number' ? { seconds, bytes } : undefined
}

function strings (value: unknown): string[] {
  return Array.isArray(value) ? value.filter(v => typeof v === 'string') : []
}

function orElse<T> (list: T[], other: T[]): T[] {
  return list.length > 0 ? list : other
}
