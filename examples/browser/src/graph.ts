// The picture: you, the relay, the peers, and what lies between.
import { setAttrs, setText, svg, sync } from './dom.js'
import type { PeerState, State } from './state.js'
import { count, milliseconds, shortId } from './words.js'

/** More would be unreadable; the list below the picture has them all. */
const SHOWN = 10

const TRAVEL_MS = 700

const RELAY_LABELS: Partial<Record<State['relay']['state'], string>> = { gone: 'relay, gone', unreachable: 'relay, not reached' }

interface Point { x: number, y: number }
interface Dot extends Point { id: string, kind: 'me' | 'relay' | 'relay gone' | 'direct' | 'relayed' | 'none' | 'lost', label: string, mesh: boolean, side: 'above' | 'below' | 'right' }
interface Edge { id: string, from: Point, to: Point, kind: 'direct' | 'relayed', label: string }

export class Graph {
  #svg = svg('svg', { role: 'img' })
  #edges = svg('g')
  #pulses = svg('g')
  #dots = svg('g')
  #where = new Map<string, Point>()
  #width = 600
  #me = ''
  #last?: State

  constructor (parent: HTMLElement) {
    this.#svg.append(this.#edges, this.#pulses, this.#dots)
    parent.append(this.#svg)
    new ResizeObserver(([entry]) => {
      this.#width = Math.max(280, Math.round(entry?.contentRect.width ?? 600))
      if (this.#last !== undefined) {
        this.draw(this.#last)
      }
    }).observe(parent)
  }

  draw (s: State): void {
    this.#last = s
    this.#me = s.id
    const peers = s.peers.slice(0, SHOWN)
    const height = Math.max(this.#width < 480 ? 270 : 330, 130 + peers.length * 46)
    setAttrs(this.#svg, { viewBox: `0 0 ${this.#width} ${height}`, height: String(height), 'aria-label': describe(s) })
    const dots = this.#place(s, peers, height)
    this.#where = new Map(dots.map(d => [d.id, d]))
    sync(this.#edges, this.#lines(s, peers), e => e.id, createEdge, updateEdge)
    sync(this.#dots, dots, d => d.id, createDot, updateDot)
  }

  /** A line that came from a peer, or went to some. */
  travel (direction: 'in' | 'out', peers: string[]): void {
    for (const peer of peers.slice(0, SHOWN)) {
      const [from, to] = direction === 'in' ? [peer, this.#me] : [this.#me, peer]
      this.#pulse(this.#where.get(from), this.#where.get(to))
      this.#light(peer)
    }
  }

  #place (s: State, peers: PeerState[], height: number): Dot[] {
    const w = this.#width
    // a triangle for two, a fan for more
    const base = peers.length > 1 ? (height + 90) / 2 : height - 75
    const dots: Dot[] = [
      { id: s.relay.id || 'relay', x: w / 2, y: 46, kind: s.relay.state in RELAY_LABELS ? 'relay gone' : 'relay', label: RELAY_LABELS[s.relay.state] ?? 'relay', mesh: s.relay.mesh, side: 'above' },
      { id: s.id || 'me', x: Math.max(48, w * 0.14), y: base, kind: 'me', label: 'you', mesh: false, side: 'below' }
    ]
    if (peers.length === 0) {
      dots.push({ id: 'nobody', x: w - Math.max(92, w * 0.2), y: base, kind: 'none', label: 'nobody yet', mesh: false, side: 'right' })
    }
    const top = 120
    peers.forEach((p, i) => {
      const y = peers.length === 1 ? base : top + i * (height - top - 40) / (peers.length - 1)
      const kind = p.status === 'lost' ? 'lost' : p.path
      dots.push({ id: p.id, x: w - Math.max(92, w * 0.2), y, kind, label: shortId(p.id), mesh: p.mesh, side: 'right' })
    })
    return dots
  }

  #lines (s: State, peers: PeerState[]): Edge[] {
    const at = (id: string): Point => this.#where.get(id) ?? { x: 0, y: 0 }
    const edges: Edge[] = []
    const relay = s.relay.id
    if (s.relay.state === 'ready' || s.relay.state === 'reserving' || s.relay.state === 'refused') {
      edges.push({ id: `relay ${relay}`, from: at(s.id), to: at(relay), kind: 'relayed', label: s.relay.rtt === null ? '' : milliseconds(s.relay.rtt) })
    }
    for (const p of peers) {
      const circuit = p.connections.find(c => c.path === 'relayed')
      if (circuit !== undefined) {
        const label = circuit.secondsLeft === null || peers.length > 1 ? '' : `${circuit.secondsLeft} s left`
        edges.push({ id: `circuit ${p.id}`, from: at(relay), to: at(p.id), kind: 'relayed', label })
      }
      if (p.path === 'direct') {
        edges.push({ id: `direct ${p.id}`, from: at(s.id), to: at(p.id), kind: 'direct', label: p.rtt === null ? '' : milliseconds(p.rtt) })
      }
    }
    return edges
  }

  #pulse (from: Point | undefined, to: Point | undefined): void {
    if (from === undefined || to === undefined || matchMedia('(prefers-reduced-motion: reduce)').matches) {
      return
    }
    const dot = svg('circle', { class: 'pulse', r: '5' })
    this.#pulses.append(dot)
    const move = dot.animate(
      [{ transform: `translate(${from.x}px, ${from.y}px)` }, { transform: `translate(${to.x}px, ${to.y}px)` }],
      { duration: TRAVEL_MS, easing: 'ease-in-out' })
    const remove = (): void => { dot.remove() }
    move.onfinish = remove
    move.oncancel = remove
  }

  /** Without motion too: the way that the line took stands out for a moment. */
  #light (peer: string): void {
    for (const edge of this.#edges.querySelectorAll(`[data-key="direct ${peer}"], [data-key="relay ${peer}"]`)) {
      edge.classList.add('lit')
      setTimeout(() => { edge.classList.remove('lit') }, TRAVEL_MS)
    }
  }
}

function describe (s: State): string {
  const direct = s.peers.filter(p => p.path === 'direct').length
  const relayed = s.peers.filter(p => p.path === 'relayed').length
  return `You, the relay, ${count(direct, 'direct peer')} and ${count(relayed, 'peer')} reached through the relay only.`
}

function createEdge (): SVGGElement {
  const g = svg('g')
  g.append(svg('line'), svg('text', { 'text-anchor': 'middle' }))
  return g
}

function updateEdge (g: SVGGElement, { from, to, kind, label }: Edge): void {
  const [line, text] = g.children
  if (line === undefined || text === undefined) {
    return
  }
  g.classList.toggle('direct', kind === 'direct')
  g.classList.toggle('relayed', kind === 'relayed')
  g.classList.add('edge')
  setAttrs(line, { x1: px(from.x), y1: px(from.y), x2: px(to.x), y2: px(to.y) })
  // nearer to the peer, where lines that share an end have parted
  const part = kind === 'direct' ? 0.62 : 0.5
  setAttrs(text, { x: px(from.x + (to.x - from.x) * part), y: px(from.y + (to.y - from.y) * part - 6) })
  setText(text, label)
}

function createDot (dot: Dot): SVGGElement {
  const g = svg('g')
  const shape = dot.side === 'above' ? svg('rect', { x: '-10', y: '-10', width: '20', height: '20', rx: '3', transform: 'rotate(45)' }) : svg('circle', { r: '9' })
  shape.classList.add('dot')
  const cross = svg('path', { class: 'cross', d: 'M-6-6 6 6M-6 6 6-6' })
  g.append(svg('circle', { class: 'ring', r: '17' }), shape, cross, svg('text', { class: 'name' }))
  return g
}

function updateDot (g: SVGGElement, dot: Dot): void {
  const text = g.lastElementChild
  if (text === null) {
    return
  }
  setAttrs(g, { class: `node ${dot.kind}${dot.mesh ? ' mesh' : ''}`, transform: `translate(${px(dot.x)} ${px(dot.y)})` })
  const place = { above: { x: '0', y: '-24', 'text-anchor': 'middle' }, below: { x: '0', y: '34', 'text-anchor': 'middle' }, right: { x: '24', y: '4', 'text-anchor': 'start' } }
  setAttrs(text, place[dot.side])
  setText(text, dot.label)
}

function px (n: number): string {
  return n.toFixed(1)
}
