// Apart from module.ts, whose types are none of a user's business.
import { init as load } from './module.js';

/** Where the WebAssembly file comes from: its address, or the file itself. */
export type WasmSource = string | URL | Request | Response | Promise<Response> | BufferSource | WebAssembly.Module;

/**
 * Loads the WebAssembly module. Everything else does this by itself; call it to load the file earlier, or from
 * a place of your own. A second call does nothing.
 */
export function init(source?: WasmSource): Promise<void> {
  return load(source);
}
