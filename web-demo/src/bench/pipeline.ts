import type { Device } from 'sunfleck/grammar';

/** Compiles a kernel; the browser's message in the error where it can't. */
export async function compile(device: Device, label: string, code: string): Promise<GPUComputePipeline> {
  const module = device.gpuDevice.createShaderModule({ label, code });
  return device.gpuDevice.createComputePipelineAsync({ label, layout: 'auto', compute: { module } });
}

/** What records one dispatch with these buffers, bound in order. */
export function dispatch(device: Device, pipeline: GPUComputePipeline, buffers: readonly GPUBuffer[], workgroups: readonly [number, number, number]): (encoder: GPUCommandEncoder) => void {
  const entries = buffers.map((buffer, binding) => ({ binding, resource: { buffer } }));
  const group = device.gpuDevice.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  return (encoder) => {
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...workgroups);
    pass.end();
  };
}

/** The numbers of GPUBufferUsage, which TypeScript does not know yet. */
export const USAGE = { copySource: 4, copyTarget: 8, uniform: 64, queryResolve: 512 };
