// Bundles the page into dist/, which a relay serves as it is.
import { build } from 'esbuild'
import { cp, mkdir, readdir, readFile, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'

const here = fileURLToPath(new URL('.', import.meta.url))
const dist = join(here, 'dist')

await rm(dist, { recursive: true, force: true })
await mkdir(dist)
await build({
  absWorkingDir: here,
  entryPoints: { app: 'src/main.ts', style: 'src/style.css' },
  outdir: dist,
  bundle: true,
  format: 'esm',
  platform: 'browser',
  // the first versions with Promise.withResolvers, which js-libp2p calls
  target: ['chrome119', 'firefox121', 'safari17.4'],
  minify: true,
  sourcemap: false,
  legalComments: 'none',
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  logLevel: 'warning'
})
await cp(join(here, 'src/index.html'), join(dist, 'index.html'))

for (const name of (await readdir(dist)).sort()) {
  const bytes = await readFile(join(dist, name))
  console.log(`dist/${name}  ${kilo(bytes.length)} kB, ${kilo(gzipSync(bytes).length)} kB gzipped`)
}

function kilo (n) {
  return (n / 1000).toFixed(1)
}
