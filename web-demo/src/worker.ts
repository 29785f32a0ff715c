// All GPU and WebAssembly work, away from the page's thread.
import { Attention, Device, Generator, SunfleckError, cachedModels, removeCachedModel } from 'sunfleck/grammar';
import { bench } from './bench/bench.js';
import type { Calls, DeviceReport, DrafterOffer, Event, FromWorker, ToWorker, WireError } from './protocol.js';

let device: Device | undefined;
let deviceIsFloor = false;
let generator: Generator | undefined;
/** Models whose kernels were waited for. */
const warm = new WeakSet<Generator>();
const running = new Map<number, AbortController>();

type Context = { signal: AbortSignal; tell: (event: Event) => void };
type Handlers = { [K in keyof Calls]: (argument: Calls[K]['in'], context: Context) => Promise<Calls[K]['out']> };

async function currentDevice(floor = deviceIsFloor): Promise<Device> {
  if (device && floor === deviceIsFloor) return device;
  generator?.dispose();
  generator = undefined;
  device?.gpuDevice.destroy();
  device = undefined;
  const made = await Device.request({ floor });
  made.failed.catch((error: unknown) => {
    // One that was given up for another is not missed.
    if (device !== made) return;
    // A lost device takes everything with it; the next request gets another one.
    device = generator = undefined;
    made.gpuDevice.destroy();
    const lost: FromWorker = { lost: wire(error) };
    postMessage(lost);
  });
  deviceIsFloor = floor;
  return (device = made);
}

function describe(current: Device): DeviceReport {
  const { gpuDevice, adapterInfo: info, capabilities, subgroupsNote } = current;
  const limits: Record<string, number> = {};
  for (const name in gpuDevice.limits) {
    const value = gpuDevice.limits[name as keyof GPUSupportedLimits];
    if (typeof value === 'number') limits[name] = value;
  }
  const adapter = { vendor: info.vendor ?? '', architecture: info.architecture ?? '', device: info.device ?? '', description: info.description ?? '' };
  const report: DeviceReport = { adapter, features: [...gpuDevice.features].sort(), limits, capabilities, floor: deviceIsFloor };
  if (subgroupsNote !== undefined) report.subgroupsNote = subgroupsNote;
  return report;
}

/** Tokens that trained drafters may draft: the most frequent ones. */
const DRAFT_VOCABULARY = 8192;

async function loadDrafter(model: Generator, { kind, weights, vocabulary }: DrafterOffer, signal: AbortSignal): Promise<void> {
  const [file, ranks] = await Promise.all([fetch(weights, { signal }), fetch(vocabulary, { signal })]);
  for (const { ok, url, status } of [file, ranks]) {
    if (!ok) throw new SunfleckError('download', `${url} answered ${status}`);
  }
  const frequent = ((await ranks.json()) as number[]).slice(0, DRAFT_VOCABULARY);
  // Trees of an MTP module where the controls ask for them; a chain is one path of them.
  await model.loadDrafter({ kind, weights: await file.arrayBuffer(), vocabulary: frequent, ...(kind === 'mtp' ? { nodes: 16 } : {}) });
}

const handlers: Handlers = {
  async device({ floor }) {
    return describe(await currentDevice(floor));
  },

  async load({ source, kv, context }, { signal, tell }) {
    const current = await currentDevice();
    generator?.dispose();
    generator = undefined;
    const begun = performance.now();
    let told = 0;
    const loaded = await Generator.load(source, {
      device: current,
      signal,
      kv,
      context,
      onProgress(progress) {
        // A page shows no more than that.
        const now = performance.now();
        if (now - told < 40 && progress.received !== progress.size) return;
        told = now;
        tell({ kind: 'progress', progress });
      },
    });
    generator = loaded;
    const report = { model: loaded.describe(), cache: { ...loaded.cache }, seconds: (performance.now() - begun) / 1000 };
    return loaded.sha256 === undefined ? report : { ...report, sha256: loaded.sha256 };
  },

  async generate({ prompt, trained, ...options }, { signal, tell }) {
    if (!generator) throw new SunfleckError('generate', 'no model is loaded');
    if (trained && !generator.describe().drafters.includes(trained.kind)) {
      tell({ kind: 'waiting', what: 'Loading the drafter …' });
      await loadDrafter(generator, trained, signal);
    }
    if (options.tree === 'auto') tell({ kind: 'waiting', what: 'Measuring what drafts cost here, once for each drafter; then reading the prompt …' });
    else if (!warm.has(generator)) tell({ kind: 'waiting', what: 'Compiling the kernels for prompts, then reading this one …' });
    warm.add(generator);
    let pieces: Extract<Event, { kind: 'pieces' }>['pieces'] = [];
    let told = performance.now();
    const flush = () => {
      if (pieces.length === 0) return;
      tell({ kind: 'pieces', pieces });
      pieces = [];
      told = performance.now();
    };
    const onStep = (step: Parameters<NonNullable<Parameters<Generator['generate']>[1]>['onStep'] & {}>[0]) =>
      tell({ kind: 'step', step, at: performance.now() });
    const answer = generator.generate(prompt, { ...options, signal, onStep });
    for await (const piece of answer) {
      pieces.push(piece);
      if (performance.now() - told > 30) flush();
    }
    flush();
    return answer.result;
  },

  async compiled() {
    await generator?.compiled();
    return null;
  },

  async bench({ quick }, { signal, tell }) {
    return bench(await currentDevice(), { quick, signal, tell });
  },

  async explain() {
    const current = await currentDevice();
    const model = generator?.describe();
    const shape = { queryHeads: model?.queryHeads ?? 9, kvHeads: model?.kvHeads ?? 3, headDim: model?.headDim ?? 64, maxKeys: model?.context ?? 2048 };
    const problems = [
      { title: 'Decoding and verifying', problem: { ...shape, maxQueries: 16, mask: 'tree', maxNodes: 16, invariant: true } },
      { title: 'Reading a prompt', problem: { ...shape, maxQueries: 128 } },
    ] as const;
    const explained = [];
    for (const { title, problem } of problems) {
      explained.push({ title, text: (await Attention.prepare(current, problem)).explain() });
    }
    return explained;
  },

  async cached() {
    return cachedModels();
  },

  async forget({ url }) {
    await removeCachedModel(url);
    return null;
  },

  async lose() {
    device?.gpuDevice.destroy();
    return null;
  },
};

function wire(error: unknown): WireError {
  if (error instanceof SunfleckError) return { name: error.name, code: error.code, message: error.message };
  if (error instanceof DOMException) return { name: error.name, code: error.name === 'AbortError' ? 'aborted' : 'other', message: error.message };
  return { name: 'Error', code: 'other', message: error instanceof Error ? error.message : String(error) };
}

addEventListener('message', async ({ data }: MessageEvent<ToWorker>) => {
  if ('abort' in data) {
    running.get(data.id)?.abort();
    return;
  }
  const { id, call, argument } = data;
  const say = (message: FromWorker) => postMessage(message);
  const control = new AbortController();
  running.set(id, control);
  try {
    const handler = handlers[call] as (argument: unknown, context: Context) => Promise<unknown>;
    say({ id, answer: await handler(argument, { signal: control.signal, tell: (event) => say({ id, event }) }) });
  } catch (error) {
    say({ id, error: wire(error) });
  } finally {
    running.delete(id);
  }
});
