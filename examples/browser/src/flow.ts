// The steps by which a connection came about, with times as they were observed.

export type StepName =
  'discovered' | 'relayed' | 'signaling' | 'offer' | 'answer' | 'candidates' | 'connected' |
  'relayed-in' | 'connected-in'

/** Milliseconds since the page was asked for. */
export interface Step { name: StepName, start: number, end?: number, count?: number }

/**
 * Which step begins at a progress event of dial(). A step ends where the next
 * one begins, so 'offer' lasts from writing it until the page waits for an
 * answer, and 'answer' until that one has come.
 */
const BEGINS: Record<string, StepName> = {
  'webrtc:dial-relay': 'relayed',
  'webrtc:open-signaling-stream': 'signaling',
  'webrtc:reuse-relay-connection': 'signaling',
  'webrtc:send-sdp-offer': 'offer',
  'webrtc:read-sdp-answer': 'answer',
  'webrtc:read-ice-candidates': 'candidates',
  'webrtc:close-signaling-stream': 'connected'
}

export class Flow {
  readonly role: 'dialler' | 'listener'
  readonly attempt: number
  readonly steps: Step[] = []
  outcome: 'running' | 'connected' | 'failed' = 'running'
  /** of a failure */
  why = ''

  constructor (role: 'dialler' | 'listener', attempt: number) {
    this.role = role
    this.attempt = attempt
  }

  get start (): number {
    return this.steps[0]?.start ?? 0
  }

  get end (): number {
    const last = this.steps.at(-1)
    return last?.end ?? performance.now()
  }

  begin (name: StepName, at = performance.now()): void {
    const last = this.steps.at(-1)
    if (last?.name === name) {
      return // a second address is tried, or an event came twice
    }
    if (last !== undefined) {
      last.end ??= at
    }
    this.steps.push({ name, start: at })
  }

  /** For the onProgress of dial(). */
  progress (type: string): void {
    const last = this.steps.at(-1)
    if (type === 'webrtc:add-ice-candidate' && last !== undefined) {
      last.count = (last.count ?? 0) + 1
      return
    }
    const step = BEGINS[type]
    if (step !== undefined) {
      // several addresses are tried one after the other: the last one counts
      const again = this.steps.findIndex(s => s.name === step)
      if (again >= 0 && this.steps.at(-1)?.name !== step) {
        this.steps.splice(again)
      }
      this.begin(step)
    }
  }

  finish (outcome: 'connected' | 'failed', why = '', at = performance.now()): void {
    this.outcome = outcome
    this.why = why
    const last = this.steps.at(-1)
    if (last !== undefined) {
      last.end ??= at
    }
  }
}
