// Serves the peer's page on loopback, which browsers treat as a secure context.
import { build } from 'esbuild'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'

const html = '<!doctype html><meta charset="utf-8"><title>peer</title><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>'

async function bundle (): Promise<Uint8Array> {
  const result = await build({
    entryPoints: [fileURLToPath(new URL('page.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'browser',
    target: 'es2023',
    minify: true,
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
    logLevel: 'error'
  })
  return result.outputFiles[0]!.contents
}

export interface PageServer {
  url: string
  close: () => void
}

export async function servePage (): Promise<PageServer> {
  const script = await bundle()
  const server: Server = createServer((request, response) => {
    const [type, body] = request.url === '/page.js' ? ['text/javascript', script] : ['text/html', html]
    response.writeHead(200, { 'content-type': type, 'cache-control': 'no-store' }).end(body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}/`, close: () => { server.closeAllConnections(); server.close() } }
}
