// Firefox looks for results of the GPU ten times a second, and whenever something is submitted.

const PERIOD = 4; // milliseconds; timers do not come more often

const isFirefox = (): boolean => /\bFirefox\//.test(globalThis.navigator?.userAgent ?? '');

/** Runs `run`, whose results come as soon as they are there, in Firefox too. */
export async function attended<T>(device: GPUDevice, run: () => Promise<T>): Promise<T> {
  if (!isFirefox()) return run();
  const timer = setInterval(() => device.queue.submit([]), PERIOD);
  try {
    return await run();
  } finally {
    clearInterval(timer);
  }
}
