// Steps as rows with bars: when each began, how long it took.
import { html, setAttrs, setText, sync } from './dom.js'
import { milliseconds } from './words.js'

export interface Row {
  key: string
  label: string
  start: number
  /** null: still running */
  end: number | null
  failed?: boolean
  /** bar in the colour of the relay or of direct connections */
  kind: 'relayed' | 'direct' | 'plain'
  /** instead of the duration */
  value?: string
}

export function drawRows (list: Element, rows: Row[]): void {
  const from = Math.min(...rows.map(r => r.start))
  const to = Math.max(...rows.map(r => r.end ?? performance.now()), from + 1)
  sync(list, rows, r => r.key, create, (li, row) => { update(li, row, from, to - from) })
}

function create (row: Row): HTMLLIElement {
  return html('li', { 'data-testid': 'step', 'data-step': row.key },
    html('span', { class: 'label' }), html('span', { class: 'track', 'aria-hidden': 'true' }, html('span', { class: 'bar' })), html('span', { class: 'ms' }))
}

function update (li: HTMLLIElement, row: Row, from: number, span: number): void {
  const [label, track, value] = li.children
  const bar = track?.firstElementChild
  if (label === undefined || value === undefined || !(bar instanceof HTMLElement)) {
    return
  }
  const end = row.end ?? performance.now()
  setAttrs(li, { class: `${row.kind}${row.failed === true ? ' failed' : ''}${row.end === null ? ' running' : ''}` })
  setText(label, row.label)
  setText(value, row.value ?? (row.end === null ? '…' : milliseconds(end - row.start)) + (row.failed === true ? ' failed' : ''))
  bar.style.left = percent((row.start - from) / span)
  bar.style.width = percent((end - row.start) / span)
}

function percent (part: number): string {
  return `${(Math.max(0, Math.min(1, part)) * 100).toFixed(2)}%`
}
