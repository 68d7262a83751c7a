// What kind of way a connection takes.
import type { Connection } from '@libp2p/interface'

export type Path = 'direct' | 'relayed' | 'none'

/** A circuit is the only kind of connection that has limits or ends at a relay. */
export function isRelayed (conn: Connection): boolean {
  return conn.limits !== undefined || (hasPart(conn, 'p2p-circuit') && !hasPart(conn, 'webrtc'))
}

export function isWebRTC (conn: Connection): boolean {
  return !isRelayed(conn) && hasPart(conn, 'webrtc')
}

export function pathOf (conns: Connection[]): Path {
  if (conns.some(c => !isRelayed(c))) {
    return 'direct'
  }
  return conns.length > 0 ? 'relayed' : 'none'
}

export function pathWords (conn: Connection): string {
  if (isRelayed(conn)) {
    return conn.limits === undefined ? 'relayed, unlimited' : 'relayed, limited'
  }
  return isWebRTC(conn) ? 'direct WebRTC' : 'direct WebSocket'
}

function hasPart (conn: Connection, name: string): boolean {
  return conn.remoteAddr.getComponents().some(c => c.name === name)
}
