import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { defineConfig } from 'vite';

const OUT = path.resolve(import.meta.dirname, '../dist/console');

/** Writes .br and .gz beside each file: the API sends them as they are. */
const compressed = {
  name: 'compressed',
  closeBundle() {
    for (const entry of readdirSync(OUT, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !/\.(js|css|svg)$/.test(entry.name)) continue;
      const file = path.join(entry.parentPath, entry.name);
      const bytes = readFileSync(file);
      const params = { [constants.BROTLI_PARAM_QUALITY]: 9 };
      writeFileSync(`${file}.br`, brotliCompressSync(bytes, { params }));
      writeFileSync(`${file}.gz`, gzipSync(bytes, { level: 9 }));
    }
  },
};

export default defineConfig({
  root: import.meta.dirname,
  base: '/console/',
  cacheDir: path.resolve(import.meta.dirname, '../node_modules/.cache/vite'),
  build: {
    outDir: OUT,
    emptyOutDir: true,
    target: 'es2022',
    // Every file comes from the server under its own address: the policy allows no data: scripts or fonts.
    assetsInlineLimit: 0,
    // The texts that the licences of what is bundled ask to keep; no route serves them.
    license: { fileName: 'licenses.md' },
    modulePreload: { polyfill: false },
    rolldownOptions: {
      // Two pages of one build, which share what both need.
      input: ['index.html', 'portal.html'].map((page) => path.resolve(import.meta.dirname, page)),
      onLog(level, log, report) {
        // Libraries mark code for browsers; all of this is.
        if (log.code !== 'MODULE_LEVEL_DIRECTIVE') report(level, log);
      },
    },
  },
  plugins: [compressed],
  // `npx vite console` beside a running `npm start`: everything but the console's files comes from the API.
  server: {
    proxy: Object.fromEntries(
      ['/api', '/console/api', '/portal/api'].map((at) => [at, 'http://127.0.0.1:8080']),
    ),
  },
});
