import { ArgumentError, DeviceLostError, GpuError, WebGpuUnavailableError } from './errors.js';
import { call, glue, init, json, settle } from './module.js';

/** What kernels use on a device. */
export interface Capabilities {
  /** Smallest and largest subgroup; null where they are not used. */
  subgroups: [number, number] | null;
  shaderF16: boolean;
  timestamps: boolean;
  /** Which tile shapes are chosen. */
  class: 'software' | 'hardware' | 'unknown';
  compiler: 'tint' | 'naga';
  checked: boolean;
  unrolled: boolean;
}

/** How kernels use a device. */
export interface DeviceOptions {
  /** Use no optional feature and the limits that WebGPU guarantees everywhere. */
  floor?: boolean;
  /** Keep the compiler's run-time checks in kernels, to rule them out while looking for a fault. */
  checked?: boolean;
  unrolled?: boolean;
  /** Whether the adapter is a CPU. Default: as its description says. */
  software?: boolean;
}

export interface RequestOptions extends DeviceOptions {
  /** WebGPU. Default: `navigator.gpu`; in Node the `create([])` of the package `webgpu`. */
  gpu?: GPU;
  powerPreference?: GPUPowerPreference;
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|warp/i;
const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxStorageBuffersPerShaderStage',
] as const;
const HELP =
  'use a browser with WebGPU (Chrome, Edge 113, Firefox 141, Safari 26 or newer) over https or localhost, and see that hardware acceleration is on';

/** A `GPUDevice` with what kernels may use on it, and the kernels compiled for it. */
export class Device {
  /** The page's own device. */
  readonly gpuDevice: GPUDevice;
  readonly adapterInfo: Partial<GPUAdapterInfo>;
  /** Rejects when the device is lost, or out of memory. */
  readonly failed: Promise<never>;
  /** Why subgroups are not used, where the adapter has them; for people. */
  readonly subgroupsNote: string | undefined;
  /** @internal */
  readonly inner: glue.Device;

  private constructor(device: GPUDevice, info: Partial<GPUAdapterInfo>, inner: glue.Device, failed: Promise<never>, note?: string) {
    this.gpuDevice = device;
    this.adapterInfo = info;
    this.inner = inner;
    this.failed = failed;
    this.subgroupsNote = note;
  }

  /** Asks for an adapter and a device with the features and limits that kernels can use. */
  static async request(options: RequestOptions = {}): Promise<Device> {
    const { gpu = (globalThis.navigator as Navigator | undefined)?.gpu, powerPreference = 'high-performance', ...rest } = options;
    if (!gpu) throw new WebGpuUnavailableError(`there is no WebGPU here; ${HELP}`);
    const adapter = await gpu.requestAdapter({ powerPreference });
    if (!adapter) throw new WebGpuUnavailableError(`WebGPU found no adapter; ${HELP}`);
    const features = (['shader-f16', 'timestamp-query', 'subgroups'] as GPUFeatureName[]).filter(
      (feature) => !options.floor && adapter.features.has(feature),
    );
    const requiredLimits: Record<string, number> = {};
    for (const limit of LIMITS) {
      const most = adapter.limits[limit];
      if (!options.floor && typeof most === 'number') requiredLimits[limit] = most;
    }
    let device: GPUDevice;
    try {
      device = await adapter.requestDevice({ label: 'sunfleck', requiredFeatures: features, requiredLimits });
    } catch (error) {
      throw new WebGpuUnavailableError(`the adapter gave no device: ${message(error)}`, { cause: error });
    }
    return Device.from(device, { ...rest, info: adapter.info });
  }

  /**
   * Takes a device of the page. Nothing is submitted to it but the kernels that are called for, and once a probe
   * of its subgroups where it was made with that feature. `info` is that of its adapter, where the device has none.
   */
  static async from(device: GPUDevice, options: DeviceOptions & { info?: Partial<GPUAdapterInfo> } = {}): Promise<Device> {
    await init();
    const { info = device.adapterInfo ?? {}, software, ...rest } = options;
    if (!device?.queue || !device.features) throw new ArgumentError('`device` must be a GPUDevice');
    const failed = failure(device);
    const probe = options.floor ? { sizes: null } : await settle(() => probeSubgroups(device, info), failed);
    const text = [info.vendor, info.architecture, info.device, info.description].join(' ');
    const isSoftware = software ?? (SOFTWARE.test(text) || isFallback(info));
    const inner = await settle(
      () =>
        glue.Device.adopt(
          device,
          complete(info),
          json('the options', { ...rest, software: isSoftware, subgroups: probe.sizes, tint: probe.sizes !== null }),
        ),
      failed,
    );
    return new Device(device, complete(info), inner, failed, probe.note);
  }

  /** What kernels use here. */
  get capabilities(): Capabilities {
    return JSON.parse(call(() => this.inner.capabilities())) as Capabilities;
  }

  /** Bytes of all buffers that were ever made for kernels and models on this device. */
  get allocatedBytes(): number {
    return call(() => this.inner.allocatedBytes);
  }

  /** A storage buffer with the bytes of `data`, at least four. */
  buffer(data: ArrayBufferView, label = 'sunfleck'): GPUBuffer {
    const size = Math.max(4, Math.ceil(data.byteLength / 4) * 4);
    const usage = GPU_BUFFER.storage | GPU_BUFFER.copySource | GPU_BUFFER.copyTarget;
    const buffer = this.gpuDevice.createBuffer({ label, size, usage, mappedAtCreation: true });
    new Uint8Array(buffer.getMappedRange()).set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    buffer.unmap();
    return buffer;
  }

  /** A storage buffer of `bytes` zero bytes. */
  storage(bytes: number, label = 'sunfleck'): GPUBuffer {
    const usage = GPU_BUFFER.storage | GPU_BUFFER.copySource | GPU_BUFFER.copyTarget;
    return this.gpuDevice.createBuffer({ label, size: Math.max(4, Math.ceil(bytes / 4) * 4), usage });
  }

  /** Copies a buffer to the host: submits, and waits. */
  async read(buffer: GPUBuffer): Promise<ArrayBuffer> {
    const usage = GPU_BUFFER.mapRead | GPU_BUFFER.copyTarget;
    const staging = this.gpuDevice.createBuffer({ label: 'read', size: buffer.size, usage });
    const encoder = this.gpuDevice.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
    this.gpuDevice.queue.submit([encoder.finish()]);
    await settle(() => staging.mapAsync(1), this.failed);
    const bytes = staging.getMappedRange().slice(0);
    staging.destroy();
    return bytes;
  }
}

// The numbers of GPUBufferUsage, which Node has no global for.
const GPU_BUFFER = { mapRead: 1, copySource: 4, copyTarget: 8, storage: 128 };

function isFallback(info: Partial<GPUAdapterInfo>): boolean {
  return (info as { isFallbackAdapter?: boolean }).isFallbackAdapter === true;
}

function complete(info: Partial<GPUAdapterInfo>): GPUAdapterInfo {
  return {
    vendor: info.vendor ?? '',
    architecture: info.architecture ?? '',
    device: info.device ?? '',
    description: info.description ?? '',
    subgroupMinSize: info.subgroupMinSize ?? 4,
    subgroupMaxSize: info.subgroupMaxSize ?? 128,
    isFallbackAdapter: isFallback(info),
  } as unknown as GPUAdapterInfo;
}

function failure(device: GPUDevice): Promise<never> {
  const failed = new Promise<never>((_, reject) => {
    void device.lost.then((info) => reject(new DeviceLostError(info)));
    device.addEventListener?.('uncapturederror', (event) => {
      const { error } = event as GPUUncapturedErrorEvent;
      if (error.constructor.name === 'GPUOutOfMemoryError') {
        reject(new GpuError(`the GPU is out of memory: ${error.message}; use a smaller model or context`, { cause: error }));
      }
    });
  });
  failed.catch(() => {});
  return failed;
}

interface Probe {
  sizes: [number, number] | null;
  note?: string;
}

const PROBE = `enable subgroups;
@group(0) @binding(0) var<storage, read_write> result: array<vec2<u32>, 64>;
@compute @workgroup_size(64)
fn main(
  @builtin(local_invocation_index) i: u32,
  @builtin(subgroup_size) size: u32,
) {
  result[i] = vec2(size, subgroupAdd(1u));
}`;

/**
 * Whether subgroups do here what they should. A browser may list the feature and not have it work; wgpu's own
 * browser backend does not know it.
 */
async function probeSubgroups(device: GPUDevice, info: Partial<GPUAdapterInfo>): Promise<Probe> {
  if (!device.features.has('subgroups' as GPUFeatureName)) return { sizes: null };
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ label: 'subgroup probe', code: PROBE });
  let pipeline: GPUComputePipeline | undefined;
  try {
    pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
  } catch {
    // Told by the scope, or else by the missing pipeline.
  }
  const error = await device.popErrorScope();
  if (error || !pipeline) return { sizes: null, note: `the feature is listed, but its probe does not compile: ${error?.message ?? ''}` };
  const result = device.createBuffer({ size: 512, usage: GPU_BUFFER.storage | GPU_BUFFER.copySource });
  const staging = device.createBuffer({ size: 512, usage: GPU_BUFFER.mapRead | GPU_BUFFER.copyTarget });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  const entries = [{ binding: 0, resource: { buffer: result } }];
  pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(result, 0, staging, 0, 512);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(1);
  const words = new Uint32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  result.destroy();
  const size = words[0] ?? 0;
  for (let i = 0; i < 64; i++) {
    const [one, sum] = [words[2 * i], words[2 * i + 1]];
    if (one !== size || sum !== Math.min(size, 64)) {
      return { sizes: null, note: `a probe of 64 invocations found subgroups of ${one} that add up to ${sum}` };
    }
  }
  const [min, max] = [info.subgroupMinSize || 4, info.subgroupMaxSize || 128];
  if (size < min || size > max) return { sizes: null, note: `a probe found subgroups of ${size}, and the adapter says ${min} to ${max}` };
  return { sizes: [min, max] };
}

function message(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
