/** A failure in words: what happened, where, and what a person can do. */
export class Trouble extends Error {
  override readonly name = 'Trouble'

  constructor (message: string, readonly tried: string, readonly advice: string) {
    super(message)
  }
}

/** The words of whatever was thrown, cut so that it cannot flood the page. */
export function errorText (err: unknown): string {
  const text = err instanceof Error ? nested(err) : String(err)
  return text.length > 240 ? `${text.slice(0, 240)}…` : text
}

function nested (err: Error): string {
  const inner = err instanceof AggregateError ? err.errors.map(e => e instanceof Error ? e.message : String(e)) : []
  return [err.message, ...inner].filter(s => s !== '').join(': ') || err.name
}
