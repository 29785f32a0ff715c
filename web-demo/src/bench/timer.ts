import type { Device } from 'sunfleck/grammar';
import { USAGE } from './pipeline.js';

/** Seconds of one call, measured over many in one submission. */
export class Timer {
  readonly clock: 'timestamps' | 'wall';
  private readonly queries: { set: GPUQuerySet; resolved: GPUBuffer } | undefined;

  constructor(private readonly device: Device) {
    const gpu = device.gpuDevice;
    if (gpu.features.has('timestamp-query')) {
      this.queries = {
        set: gpu.createQuerySet({ type: 'timestamp', count: 2 }),
        resolved: gpu.createBuffer({ size: 16, usage: USAGE.queryResolve | USAGE.copySource }),
      };
    }
    this.clock = this.queries ? 'timestamps' : 'wall';
  }

  /**
   * The median of samples of about `seconds`, each of as many calls as that takes. `record` writes one call into
   * the encoder.
   */
  async time(record: (encoder: GPUCommandEncoder) => void, { seconds = 0.12, samples = 3, signal }: { seconds?: number; samples?: number; signal?: AbortSignal } = {}): Promise<number> {
    let calls = 1;
    let per = await this.sample(record, calls);
    // Doubled until a sample is long enough for any clock.
    while (per * calls < seconds / 2 && calls < 512) {
      calls = Math.min(512, Math.max(calls * 2, Math.ceil(seconds / Math.max(per, 1e-7) / 2)));
      per = await this.sample(record, calls);
      signal?.throwIfAborted();
    }
    const found = [per];
    for (let i = 1; i < samples; i++) {
      found.push(await this.sample(record, calls));
      signal?.throwIfAborted();
    }
    found.sort((a, b) => a - b);
    return found[found.length >> 1]!;
  }

  private async sample(record: (encoder: GPUCommandEncoder) => void, calls: number): Promise<number> {
    const gpu = this.device.gpuDevice;
    const encoder = gpu.createCommandEncoder();
    const mark = (index: number) => {
      if (!this.queries) return;
      // An empty pass carries the stamp: passes of calls are not ours to change.
      const writes = { querySet: this.queries.set, ...(index === 0 ? { beginningOfPassWriteIndex: 0 } : { endOfPassWriteIndex: 1 }) };
      encoder.beginComputePass({ timestampWrites: writes }).end();
    };
    mark(0);
    for (let i = 0; i < calls; i++) record(encoder);
    mark(1);
    if (this.queries) encoder.resolveQuerySet(this.queries.set, 0, 2, this.queries.resolved, 0);
    const commands = encoder.finish();
    await gpu.queue.onSubmittedWorkDone();
    const start = performance.now();
    gpu.queue.submit([commands]);
    await gpu.queue.onSubmittedWorkDone();
    const wall = (performance.now() - start) / 1000;
    if (this.queries) {
      const [begin, end] = new BigUint64Array(await this.device.read(this.queries.resolved));
      const stamped = Number(end! - begin!) / 1e9;
      // A stamp that disagrees with the wall clock is not believed: some browsers round, some drivers are wrong.
      if (stamped > 0 && stamped <= wall * 1.05 && stamped > wall * 0.5) return stamped / calls;
    }
    return wall / calls;
  }
}
