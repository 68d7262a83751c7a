// Where peers live: a Chromium, a Firefox, or this Node process itself.
import { RTCPeerConnection as NodePeerConnection } from 'node-datachannel/polyfill'
import { chromium } from 'playwright-core'
import puppeteer from 'puppeteer-core'
import { describe } from './events.ts'
import { Peer, type Config } from './peer.ts'
import { watch, type PeerConnectionClass } from './probe.ts'
import { servePage } from './server.ts'

export type Kind = 'chromium' | 'firefox' | 'node'

/** One peer, or one page of the demo. */
export interface Tab {
  /** Starts the peer and returns its id. */
  start: (config: Config) => Promise<string>
  /** Calls a method of the peer. */
  call: (method: string, parameters: unknown[]) => Promise<unknown>
  goto: (url: string) => Promise<void>
  /** Evaluates an expression in the page. */
  evaluate: (expression: string) => Promise<unknown>
  fill: (selector: string, text: string) => Promise<void>
  click: (selector: string) => Promise<void>
  screenshot: (path: string) => Promise<void>
  /** What the page wrote to its console. */
  console: string[]
  close: () => Promise<void>
}

export interface Host {
  version: string
  open: () => Promise<Tab>
  close: () => Promise<void>
}

const methods = [
  'state', 'dial', 'abort', 'subscribe', 'publish', 'ping', 'stop',
  'streams', 'upload', 'download', 'halfClose', 'resetSeen', 'received'
] as const

// None of these concerns WebRTC: the peers run with the settings of a user's browser.
const chromiumFlags = [
  '--no-sandbox', // a container's root may not have one
  '--disable-gpu',
  '--disable-dev-shm-usage', // containers give /dev/shm 64 MB
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--no-first-run'
]

// Wide enough for a page's desktop layout in screenshots.
const viewport = { width: 1280, height: 900 }

/** What a tab needs from playwright's or puppeteer's page. */
interface Page {
  goto: (url: string, options: { waitUntil: 'load' }) => Promise<unknown>
  evaluate: (expression: string) => Promise<unknown>
  screenshot: (options: { path: string, fullPage: boolean }) => Promise<unknown>
}

interface PageControls {
  fill: (selector: string, text: string) => Promise<void>
  click: (selector: string) => Promise<void>
  close: () => Promise<void>
}

function browserTab (page: Page, controls: PageControls, url: string, console: string[]): Tab {
  const evaluate = async (expression: string): Promise<unknown> => {
    // As JSON, because the two drivers disagree on what else can leave a page.
    const json = await page.evaluate(`(async () => JSON.stringify(await (${expression})) ?? 'null')()`)
    return JSON.parse(String(json)) as unknown
  }
  return {
    ...controls,
    console,
    evaluate,
    goto: async (to) => { await page.goto(to, { waitUntil: 'load' }) },
    screenshot: async (path) => { await page.screenshot({ path, fullPage: true }) },
    start: async (config) => {
      await page.goto(`${url}#${encodeURIComponent(JSON.stringify(config))}`, { waitUntil: 'load' })
      return String(await evaluate('window.started'))
    },
    call: async (method, parameters) => {
      if (!methods.some((known) => known === method)) {
        throw new Error(`a peer has no method ${method}`)
      }
      return await evaluate(`window.peer.${method}(...${JSON.stringify(parameters)})`)
    }
  }
}

async function launchChromium (executablePath: string): Promise<Host> {
  const server = await servePage()
  const browser = await chromium.launch({ executablePath, headless: true, chromiumSandbox: false, args: chromiumFlags })
  return {
    version: `Chromium ${browser.version()}`,
    close: async () => { await browser.close(); server.close() },
    open: async () => {
      const context = await browser.newContext({ viewport })
      const page = await context.newPage()
      const lines: string[] = []
      page.on('console', (message) => lines.push(`${message.type()} ${message.text()}`))
      page.on('pageerror', (error) => lines.push(`uncaught ${describe(error)}`))
      return browserTab(page, {
        fill: async (selector, text) => { await page.fill(selector, text) },
        click: async (selector) => { await page.click(selector) },
        close: async () => { await context.close() }
      }, server.url, lines)
    }
  }
}

async function launchFirefox (executablePath: string): Promise<Host> {
  const server = await servePage()
  const profile = process.env.TANGO_FIREFOX_PROFILE
  const browser = await puppeteer.launch({
    browser: 'firefox',
    protocol: 'webDriverBiDi',
    executablePath,
    headless: true,
    defaultViewport: viewport,
    // The test of certificates has one that trusts its own authority.
    ...(profile === undefined ? {} : { userDataDir: profile })
  })
  return {
    version: `Firefox ${(await browser.version()).replace(/^firefox\//i, '')}`,
    close: async () => { await browser.close(); server.close() },
    open: async () => {
      const context = await browser.createBrowserContext()
      const page = await context.newPage()
      const lines: string[] = []
      page.on('console', (message) => lines.push(`${message.type()} ${message.text()}`))
      page.on('pageerror', (error) => lines.push(`uncaught ${describe(error)}`))
      return browserTab(page, {
        // Not locators: what they wait for does not come in Firefox 140.
        fill: async (selector, text) => {
          await page.click(selector, { clickCount: 3 }) // selects what is there
          await page.type(selector, text)
        },
        click: async (selector) => { await page.click(selector) },
        close: async () => { await context.close() }
      }, server.url, lines)
    }
  }
}

function nodeTab (): Tab {
  const peer = new Peer()
  const noPage = async (): Promise<never> => { throw new Error('a node peer has no page') }
  return {
    console: [],
    goto: noPage,
    evaluate: noPage,
    fill: noPage,
    click: noPage,
    screenshot: noPage,
    start: async (config) => await peer.start(config),
    call: async (method, parameters) => {
      const known = methods.find((candidate) => candidate === method)
      if (known == null) {
        throw new Error(`a peer has no method ${method}`)
      }
      return await (peer[known] as (...parameters: unknown[]) => unknown).apply(peer, parameters)
    },
    close: async () => { await peer.stop() }
  }
}

export async function launch (kind: Kind, executablePath: string): Promise<Host> {
  switch (kind) {
    case 'chromium': return await launchChromium(executablePath)
    case 'firefox': return await launchFirefox(executablePath)
    case 'node':
      // Its declarations are not those of lib.dom, its behaviour is.
      watch(NodePeerConnection as unknown as PeerConnectionClass)
      return { version: `Node ${process.version}`, open: async () => nodeTab(), close: async () => {} }
  }
}
