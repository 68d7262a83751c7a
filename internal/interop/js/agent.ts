// One browser, or one Node peer, driven by JSON lines: requests on stdin, answers
// on stdout, everything else on stderr. ../README.md describes the protocol.
//
//   node agent.ts chromium|firefox|node [EXECUTABLE]
import { createInterface } from 'node:readline'
import { describe } from './events.ts'
import { launch, type Host, type Kind, type Tab } from './hosts.ts'
import type { Config } from './peer.ts'

type Request = { id: number } & (
  | { op: 'open' }
  | { op: 'start', tab: number, config: Config }
  | { op: 'call', tab: number, method: string, parameters: unknown[] }
  | { op: 'goto', tab: number, url: string }
  | { op: 'evaluate', tab: number, expression: string }
  | { op: 'fill', tab: number, selector: string, text: string }
  | { op: 'click', tab: number, selector: string }
  | { op: 'screenshot', tab: number, path: string }
  | { op: 'console', tab: number }
  | { op: 'close', tab: number }
)

// Firefox took 6 s on a busy two-core machine. Both drivers kill their browser when this process exits.
const closeTimeoutMs = 15_000

const tabs: Array<Tab | undefined> = []

function write (answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`)
}

function tabOf (index: number): Tab {
  const tab = tabs[index]
  if (tab == null) {
    throw new Error(`no tab ${index}`)
  }
  return tab
}

async function handle (host: Host, request: Request): Promise<unknown> {
  if (request.op === 'open') {
    return tabs.push(await host.open()) - 1
  }
  const tab = tabOf(request.tab)
  switch (request.op) {
    case 'start': return await tab.start(request.config)
    case 'call': return await tab.call(request.method, request.parameters)
    case 'goto': return await tab.goto(request.url)
    case 'evaluate': return await tab.evaluate(request.expression)
    case 'fill': return await tab.fill(request.selector, request.text)
    case 'click': return await tab.click(request.selector)
    case 'screenshot': return await tab.screenshot(request.path)
    case 'console': return tab.console
    case 'close':
      tabs[request.tab] = undefined
      return await tab.close()
  }
}

async function answer (host: Host, line: string): Promise<void> {
  const request = JSON.parse(line) as Request
  try {
    write({ id: request.id, result: await handle(host, request) ?? null })
  } catch (error) {
    write({ id: request.id, error: describe(error) })
  }
}

async function run (): Promise<void> {
  const [kind, executable = ''] = process.argv.slice(2)
  // js-libp2p and its addons may print; stdout carries answers only.
  console.log = console.info = console.debug = console.error
  const host = await launch(kind as Kind, executable)
  const quit = (): void => {
    setTimeout(() => process.exit(1), closeTimeoutMs)
    host.close().then(() => process.exit(0), () => process.exit(1))
  }
  process.on('SIGTERM', quit)
  process.on('SIGINT', quit)
  createInterface({ input: process.stdin })
    .on('line', (line) => { void answer(host, line) })
    .on('close', quit)
  write({ ready: true, version: host.version })
}

run().catch((error: unknown) => {
  console.error(describe(error))
  process.exit(1)
})
