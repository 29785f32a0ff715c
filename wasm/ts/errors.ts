/** What every error of this package is. `code` says the kind without comparing classes, also across workers. */
export class SunfleckError extends Error {
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** An argument of the wrong form. */
export class ArgumentError extends SunfleckError {
  constructor(message: string) {
    super('argument', message);
  }
}

/** There is no WebGPU here, or no adapter. The message says what a user can do. */
export class WebGpuUnavailableError extends SunfleckError {
  constructor(message: string, options?: ErrorOptions) {
    super('webgpu-unavailable', message, options);
  }
}

/** The device was lost: by a driver's reset, by sleep, or since `destroy` was called. Ask for another one. */
export class DeviceLostError extends SunfleckError {
  readonly reason: GPUDeviceLostReason;

  constructor(info: { reason: GPUDeviceLostReason; message: string }) {
    const why = info.message || info.reason;
    super('device-lost', `the GPU device was lost (${why}); request another device and load the model again`);
    this.reason = info.reason;
  }
}

/** The device refused a kernel, a buffer or a command, or is out of memory. */
export class GpuError extends SunfleckError {
  constructor(message: string, options?: ErrorOptions) {
    super('gpu', message, options);
  }
}

/** A problem, plan or call of attention. */
export class AttentionError extends SunfleckError {
  constructor(message: string) {
    super('attention', message);
  }
}

/** A problem, plan or call of verification. */
export class VerifyError extends SunfleckError {
  constructor(message: string) {
    super('verify', message);
  }
}

/** A draft tree. */
export class TreeError extends SunfleckError {
  constructor(message: string) {
    super('tree', message);
  }
}

/** A model file that is none, is damaged, or holds a model that can't be run. */
export class ModelError extends SunfleckError {
  constructor(message: string) {
    super('model', message);
  }
}

/** A prompt or a generation. */
export class GenerateError extends SunfleckError {
  constructor(message: string) {
    super('generate', message);
  }
}

/** A grammar that is none, that can't be used, or that this build does not know. */
export class GrammarError extends SunfleckError {
  constructor(message: string) {
    super('grammar', message);
  }
}

/** A download that could not be finished. Bytes that arrived are kept where the cache is on. */
export class DownloadError extends SunfleckError {
  /** HTTP status, where the server answered. */
  readonly status: number | undefined;

  constructor(message: string, status?: number, options?: ErrorOptions) {
    super('download', message, options);
    this.status = status;
  }
}

/** A file's bytes do not have the checksum that they should have. */
export class ChecksumError extends SunfleckError {
  readonly expected: string;
  readonly found: string;

  constructor(what: string, expected: string, found: string) {
    super('checksum', `${what} has the SHA-256 checksum ${found}, which should be ${expected}; it was not used`);
    this.expected = expected;
    this.found = found;
  }
}

/** A defect of this library: its module must not be used again. Please report the message. */
export class DefectError extends SunfleckError {
  constructor(message: string) {
    super('defect', `sunfleck stopped by a defect of its own and can't be used again until the page or worker is loaded anew: ${message}`);
  }
}

const byCode: Record<string, new (message: string) => SunfleckError> = {
  argument: ArgumentError,
  attention: AttentionError,
  generate: GenerateError,
  gpu: GpuError,
  grammar: GrammarError,
  model: ModelError,
  tree: TreeError,
  verify: VerifyError,
};

/** The error of this package for one that the module threw; anything else as it is. */
export function fromModule(thrown: unknown): unknown {
  if (thrown instanceof SunfleckError || !(thrown instanceof Error)) return thrown;
  const code = (thrown as { code?: unknown }).code;
  const Class = typeof code === 'string' && Object.hasOwn(byCode, code) ? byCode[code] : undefined;
  return Class ? new Class(thrown.message) : thrown;
}
