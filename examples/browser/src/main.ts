// Entry point of the page.
import { startApp, type App } from './app.js'
import { BreakdownClock } from './breakdown.js'
import { readRelayInfo } from './relay-info.js'
import { snapshot, type Start, type State } from './state.js'
import { Trouble, errorText } from './trouble.js'
import { View } from './view.js'

/**
 * What tests and curious people find at window.tango. state() is a plain copy
 * of what the page shows (see {@link State}); say() writes a chat line as the
 * form does and resolves with the number of peers that GossipSub handed it to,
 * the relay included. say() throws if the line is empty or too long, or if the
 * page has not started.
 */
export interface Probe {
  state (): State
  say (text: string): Promise<number>
}

declare global {
  interface Window { tango: Probe }
}

/** A server that restarts is back within seconds; one that is gone need not be asked more often. */
const RETRY_MS = 5000

/** Bursts of events draw once. Not an animation frame: those stop in hidden tabs. */
const DRAW_MS = 80

const clock = new BreakdownClock()
const start: Start = {}
let app: App | undefined
let wake = (): void => {}
let drawing = false

const view = new View({
  say: async text => (await running().chat.say(text)),
  retry: () => { wake(); app?.relay.retryNow() }
})

window.tango = {
  state: () => snapshot(app, start, clock),
  say: async text => (await running().chat.say(text)).length
}

function running (): App {
  if (app === undefined) {
    throw new Error('The page is still starting.')
  }
  return app
}

function changed (): void {
  if (!drawing) {
    drawing = true
    setTimeout(() => {
      drawing = false
      draw()
    }, DRAW_MS)
  }
}

function draw (): void {
  if (app?.relay.connectedAt !== undefined) {
    clock.mark('relay', app.relay.connectedAt)
  }
  if (app?.relay.reservedAt !== undefined) {
    clock.mark('reserved', app.relay.reservedAt)
  }
  view.draw(snapshot(app, start, clock))
}

async function tryToStart (): Promise<App> {
  if (!('withResolvers' in Promise) || !('RTCPeerConnection' in globalThis)) {
    throw new Trouble('This browser lacks WebRTC or is too old.', navigator.userAgent,
      'Use Chromium 119, Firefox 121, Safari 17.4 or later.')
  }
  const info = await readRelayInfo(new URL(location.href))
  clock.mark('info')
  return startApp(info, clock, changed)
}

async function main (): Promise<void> {
  const ticker = setInterval(changed, 1000)
  while (app === undefined) {
    try {
      app = await tryToStart()
      delete start.trouble
      app.chat.onTravel = (direction, peers) => { view.travel(direction, peers) }
    } catch (err) {
      start.trouble = err instanceof Trouble ? err : new Trouble(`js-libp2p did not start (${errorText(err)}).`, location.href, 'Reload the page.')
      start.retryAt = performance.now() + RETRY_MS
      changed()
      await new Promise<void>(resolve => {
        wake = resolve
        setTimeout(resolve, RETRY_MS)
      })
      delete start.retryAt
      changed()
    }
  }
  clearInterval(ticker)
  changed()
}

draw()
void main()
