// Where the time from page load to the first direct connection went.
import type { Flow } from './flow.js'

/** Milliseconds since the browser began to load the page (performance.timeOrigin). */
export interface Breakdown {
  /** the page's script began to run */
  script: number
  /** relay.json was read */
  info?: number
  /** js-libp2p had started */
  libp2p?: number
  /** the relay was connected */
  relay?: number
  /** the relay had given a reservation */
  reserved?: number
  /** the peer of the first direct connection was first heard of */
  discovered?: number
  /** it was dialled, or its relayed connection came in */
  dialled?: number
  /** the first direct connection was open */
  direct?: number
  role?: Flow['role']
  peer?: string
}

export type Milestone = Exclude<keyof Breakdown, 'role' | 'peer'>

export class BreakdownClock {
  readonly times: Breakdown

  constructor () {
    this.times = { script: whole(performance.now()) }
  }

  mark (milestone: Milestone, at = performance.now()): void {
    this.times[milestone] ??= whole(at)
  }

  /** Called for each direct connection; only the first counts. */
  direct (peer: string, first: number, flow: Flow | undefined): void {
    if (this.times.direct !== undefined) {
      return
    }
    const role = flow?.role ?? 'listener'
    this.mark('discovered', first)
    this.mark('dialled', flow?.steps.find(s => s.name === 'relayed' || s.name === 'relayed-in')?.start ?? first)
    this.mark('direct')
    Object.assign(this.times, { role, peer })
    // one line that a test or a person with the console open can collect
    console.info('tango-breakdown ' + JSON.stringify(this.times))
  }
}

function whole (ms: number): number {
  return Math.round(ms * 10) / 10
}
