import initGlue, * as glue from './glue/sunfleck_wasm.js';
import { ArgumentError, DefectError, SunfleckError, fromModule } from './errors.js';
import type { WasmSource } from './init.js';

export { glue };

let loading: Promise<void> | undefined;
let defect: DefectError | undefined;
let stopped!: (error: DefectError) => void;
const stop = new Promise<never>((_, reject) => (stopped = reject));
stop.catch(() => {});

// How the module tells of a panic, before it traps.
Object.defineProperty(globalThis, '__sunfleckPanic', {
  configurable: true,
  value: (message: string) => {
    defect ??= new DefectError(message);
    stopped(defect);
  },
});

let standard: () => WasmSource | Promise<WasmSource> = () => new URL('./glue/sunfleck_wasm_bg.wasm', import.meta.url);

/** Says where the file is looked for when `init` is given nothing. */
export function setStandardSource(source: () => WasmSource | Promise<WasmSource>): void {
  standard = source;
}

/** Loads the module, once. */
export function init(source?: WasmSource): Promise<void> {
  loading ??= (async () => {
    try {
      await initGlue({ module_or_path: source ?? (await standard()) });
    } catch (error) {
      loading = undefined;
      throw error;
    }
  })();
  return loading;
}

/** Calls into the module: a panic becomes a {@link DefectError}, its other errors those of this package. */
export function call<T>(run: () => T): T {
  if (defect) throw defect;
  try {
    return run();
  } catch (error) {
    throw defect ?? fromModule(error);
  }
}

/** As {@link call} for what answers later; ends also when `others` reject, with their error. */
export async function settle<T>(run: () => Promise<T>, ...others: Promise<never>[]): Promise<T> {
  if (defect) throw defect;
  try {
    return await Promise.race([run(), stop, ...others]);
  } catch (error) {
    if (defect) throw defect;
    // A lost device fails what is under way a moment before it says that it is lost.
    if (others.length > 0 && !(error instanceof SunfleckError)) await Promise.race([...others, pause(LOST_WITHIN)]);
    throw fromModule(error);
  }
}

/** Frees an object of the module; one that work on a lost device still holds is left to the collector. */
export function release(object: { free(): void }): void {
  try {
    object.free();
  } catch {
    // Borrowed by a call that will never end.
  }
}

/** Milliseconds between the first failure of a lost device and its own word. */
const LOST_WITHIN = 200;

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** JSON for the module: bigints as digits, and no field that is undefined. */
export function json(what: string, options: object): string {
  if (typeof options !== 'object' || options === null) throw new ArgumentError(`${what} must be an object`);
  return JSON.stringify(options, (_, value) => (typeof value === 'bigint' ? value.toString() : value));
}
