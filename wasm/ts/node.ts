// The entry for Node, where the WebAssembly file is read and not fetched.
import { setStandardSource } from './module.js';

export * from './index.js';

// A name that a bundler does not look up: Node's own modules have no types here.
const fileSystem = 'node:fs/promises';
setStandardSource(async () => {
  const { readFile } = (await import(/* @vite-ignore */ fileSystem)) as { readFile(path: URL): Promise<BufferSource> };
  return readFile(new URL('./glue/sunfleck_wasm_bg.wasm', import.meta.url));
});
