// The log that a peer keeps of itself. It is what a failing test prints.

export interface LogEvent {
  /** Milliseconds since the Unix epoch, comparable between processes of one machine. */
  at: number
  kind: string
  detail: string
}

// A dial leaves some thirty events; a minute of chat leaves none. 4,000 is hours.
const capacity = 4000

const events: LogEvent[] = []

export function now (): number {
  return performance.timeOrigin + performance.now()
}

export function record (kind: string, detail: string): void {
  events.push({ at: now(), kind, detail })
  if (events.length > capacity) {
    events.shift()
  }
}

export function recorded (): LogEvent[] {
  return events
}

export function describe (error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error)
  }
  const nested: unknown[] = error instanceof AggregateError ? error.errors : []
  const parts = [`${error.name}: ${error.message}`, ...nested.map(describe)]
  if (error.cause != null) {
    parts.push(`cause ${describe(error.cause)}`)
  }
  return parts.join('; ')
}
