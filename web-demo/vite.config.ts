import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { defineConfig, type Plugin } from 'vite';

/** Writes the service worker with the names of all files, so that the page works offline once it was loaded. */
function offline(): Plugin {
  return {
    name: 'offline',
    apply: 'build',
    generateBundle(_, bundle) {
      const hash = createHash('sha256');
      const names = Object.keys(bundle).sort();
      for (const name of names) {
        const file = bundle[name]!;
        hash.update(name).update(file.type === 'chunk' ? file.code : file.source);
      }
      const files = ['./', ...names, 'icon.svg', 'manifest.webmanifest'];
      const text = readFileSync(new URL('./src/offline.js', import.meta.url), 'utf8');
      const source = text
        .replace('/* version */', JSON.stringify(hash.digest('hex').slice(0, 12)))
        .replace('/* files */', files.map((name) => JSON.stringify(name)).join(', '));
      this.emitFile({ type: 'asset', fileName: 'offline.js', source });
    },
  };
}

export default defineConfig({
  base: './', // any static host, in any folder
  build: { target: 'es2022', assetsInlineLimit: 0, license: { fileName: 'third-party.md' }, modulePreload: { polyfill: false } },
  worker: { format: 'es' },
  plugins: [offline()],
});
