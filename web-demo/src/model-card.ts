// The line on top: which model, where it came from, how far it is loaded.
import { byId, bytes, seconds } from './dom.js';
import type { Engine, EngineError } from './engine.js';
import type { DeviceReport, LoadReport, LoadRequest } from './protocol.js';
import type { LoadProgress, ModelDescription } from 'sunfleck';

interface Offer {
  models: { name: string; url: string; bytes: number }[];
  mtp: { weights: string; vocabulary: string } | null;
}

/** Milliseconds within which a second loss is not answered by loading again: what loses devices may be the model. */
const LOST_AGAIN = 60_000;

export type Complain = (error: unknown, retry?: { label: string; run: () => void }) => void;

export class ModelCard {
  model: ModelDescription | undefined;
  private offer: Offer = { models: [], mtp: null };
  private source: string | File | undefined;
  private listeners: ((model: ModelDescription | undefined) => void)[] = [];
  private loading: AbortController | undefined;
  private lastLost: number | undefined;

  constructor(
    private readonly engine: Engine,
    private readonly settings: () => Pick<LoadRequest, 'kv' | 'context'>,
    private readonly complain: Complain,
  ) {
    byId('load').addEventListener('click', () => {
      const [model] = this.offer.models;
      if (model) void this.load(new URL(model.url, document.baseURI).href);
    });
    byId<HTMLInputElement>('file').addEventListener('change', ({ target }) => {
      const input = target as HTMLInputElement;
      const file = input.files?.[0];
      if (file) void this.load(file);
      input.value = '';
    });
    byId('load-stop').addEventListener('click', () => this.loading?.abort());
    document.addEventListener('dragover', (event) => event.preventDefault());
    document.addEventListener('drop', (event) => {
      event.preventDefault();
      const file = event.dataTransfer?.files[0];
      if (file) void this.load(file);
    });
  }

  onChange(listener: (model: ModelDescription | undefined) => void): void {
    this.listeners.push(listener);
  }

  /** Looks for a device and for what this host offers. */
  async start(): Promise<void> {
    this.set(undefined);
    try {
      const answer = await fetch('model/index.json');
      if (answer.ok) this.offer = (await answer.json()) as Offer;
    } catch {
      // A host without models, or offline: a file can be chosen, and what is kept is still offered below.
    }
    let device: DeviceReport;
    try {
      device = await this.engine.call('device', { floor: false });
    } catch (error) {
      byId<HTMLButtonElement>('load').disabled = true;
      byId<HTMLInputElement>('file').disabled = true;
      byId('model-dot').className = 'dot bad';
      byId('model-status').textContent = 'This page needs WebGPU.';
      this.complain(error);
      return;
    }
    const kept = await this.engine.call('cached', null).catch(() => []);
    if (this.offer.models.length === 0) {
      this.offer.models = kept.filter((one) => one.complete).map((one) => ({ name: one.url.split('/').at(-1)!, url: one.url, bytes: one.bytes }));
    }
    this.describeOffer(kept, device);
    document.documentElement.dataset['ready'] = 'true';
  }

  /** The device was given up for another one: the model is loaded there. */
  deviceChanged(): void {
    this.set(undefined);
    if (this.source) void this.load(this.source);
  }

  /** The device is gone, and the model with it. The model is loaded on another one, unless that was so a moment ago. */
  lost(error: EngineError): void {
    const before = this.lastLost;
    this.lastLost = performance.now();
    const hadModel = this.model !== undefined;
    this.set(undefined);
    byId('model-dot').className = 'dot bad';
    byId('model-status').textContent = 'Not loaded: the device it was on is gone.';
    // One that is being loaded fails by itself.
    if (!hadModel || !this.source) return;
    const { source } = this;
    const again = error.code === 'device-lost' && (before === undefined || this.lastLost - before > LOST_AGAIN);
    if (again) void this.load(source);
    this.complain(error, again ? undefined : { label: 'Get a device and load again', run: () => void this.load(source) });
  }

  async reload(): Promise<void> {
    if (this.model && this.source) await this.load(this.source);
  }

  async load(source: string | File): Promise<void> {
    this.loading?.abort();
    const loading = (this.loading = new AbortController());
    this.source = source;
    this.set(undefined);
    const name = typeof source === 'string' ? decodeURIComponent(source.split('/').at(-1)!) : source.name;
    byId('model-title').textContent = name;
    byId('model-dot').className = 'dot busy';
    byId('model-status').textContent = 'Compiling kernels …';
    byId('alert').hidden = true;
    this.showProgress(true);
    try {
      const report = await this.engine.call(
        'load',
        { source, ...this.settings(), mtp: typeof source === 'string' ? this.absolute(this.offer.mtp) : null },
        { signal: loading.signal, hear: (event) => event.kind === 'progress' && this.progress(event.progress) },
      );
      this.loaded(report);
    } catch (error) {
      if (loading !== this.loading) return;
      byId('model-dot').className = 'dot bad';
      byId('model-status').textContent = loading.signal.aborted ? 'Stopped. What arrived is kept: loading again goes on there.' : 'Not loaded.';
      if (!loading.signal.aborted) this.complain(error, { label: 'Try again', run: () => void this.load(source) });
    } finally {
      if (loading === this.loading) {
        this.loading = undefined;
        this.showProgress(false);
      }
    }
  }

  private absolute(mtp: Offer['mtp']): Offer['mtp'] {
    if (!mtp) return null;
    const full = (url: string) => new URL(url, document.baseURI).href;
    return { weights: full(mtp.weights), vocabulary: full(mtp.vocabulary) };
  }

  private describeOffer(kept: { url: string; complete: boolean }[], device: DeviceReport): void {
    const [model] = this.offer.models;
    const button = byId<HTMLButtonElement>('load');
    button.hidden = !model;
    const on = [device.adapter['description'], device.adapter['architecture'], device.adapter['vendor']].find((text) => text) ?? 'this GPU';
    if (!model) {
      byId('model-status').textContent = `Choose a GGUF file of a Llama-family model. It stays on this machine and runs on ${on}.`;
      return;
    }
    const here = kept.find((one) => one.url === new URL(model.url, document.baseURI).href)?.complete;
    byId('model-title').textContent = model.name;
    byId('model-status').textContent = `${bytes(model.bytes)}, ${here ? 'kept from an earlier visit' : 'downloaded once, then kept'}; runs on ${on}`;
  }

  private set(model: ModelDescription | undefined): void {
    this.model = model;
    const load = byId('load');
    load.classList.toggle('primary', !model);
    load.textContent = model ? 'Load again' : 'Load the model';
    for (const listener of this.listeners) listener(model);
  }

  private loaded({ model, cache, seconds: time }: LoadReport): void {
    const from = {
      hit: 'from the cache, its checksum verified',
      stored: cache.resumed > 0 ? `downloaded from ${bytes(cache.resumed)} on, and kept` : 'downloaded, and kept for the next time',
      off: 'from your file',
      unavailable: 'not kept: there is no storage here',
      busy: 'not kept: another page is downloading it',
      full: 'not kept: the disk, or this site’s share of it, is full',
    }[cache.state];
    byId('model-dot').className = 'dot ready';
    if (model.name) byId('model-title').textContent = model.name;
    const status = byId('model-status');
    status.textContent = `Ready in ${seconds(time)}, ${from}. ${model.layers} layers, ${bytes(model.gpuBytes)} on the GPU${model.mtp ? ', with its MTP drafter' : ''}.`;
    status.dataset['cache'] = cache.state;
    this.set(model);
  }

  private showProgress(shown: boolean): void {
    byId('load-progress').hidden = !shown;
    byId('load-stop').hidden = !shown;
    byId('load').hidden = shown || this.offer.models.length === 0;
    byId('file-label').hidden = shown;
    if (shown) this.progress({ received: 0, size: undefined, uploaded: 0, weights: 0, seconds: 0, cache: 'off', resumed: 0 });
  }

  private progress({ received, size, uploaded, weights, seconds: time, cache, resumed }: LoadProgress): void {
    const bar = (id: string, part: number) => {
      const element = byId(id);
      element.setAttribute('aria-valuenow', String(Math.round(part * 100)));
      (element.firstElementChild as HTMLElement).style.transform = `scaleX(${part})`;
    };
    bar('bar-received', size ? received / size : 0);
    bar('bar-uploaded', weights ? uploaded / weights : 0);
    const from = cache === 'hit' ? 'from the cache' : resumed > 0 ? `going on at ${bytes(resumed)}` : 'downloaded';
    const of = size ? ` of ${bytes(size)}` : '';
    byId('progress-text').textContent = `${bytes(received)}${of} ${from} · ${bytes(uploaded)} on the GPU · ${seconds(time)}`;
    if (weights > 0) byId('model-status').textContent = 'Weights go to the GPU as they arrive.';
  }
}
