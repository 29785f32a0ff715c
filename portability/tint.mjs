// Compiles WGSL with Tint, inside Dawn. Writes "ready", then answers each line {name, wgsl} on standard input with a line:
// null, or what was wrong. Arguments: the folder node_modules that has the package `webgpu`, and Dawn's backend. `null` has
// every feature, and Tint reads and checks modules for it; for `vulkan` pipelines are made too, for which Tint writes SPIR-V
// and the driver reads it.
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const [folder, backend] = process.argv.slice(2);
const require = createRequire(resolve(folder, "here.js"));
const { create, globals } = require("webgpu");
Object.assign(globalThis, globals);

// Dawn ends with this object, whatever else is still held.
globalThis.gpu = create([`backend=${backend}`]);
const adapter = await gpu.requestAdapter();
if (!adapter) {
  console.error(`Dawn found no adapter for ${backend}; VK_DRIVER_FILES may name SwiftShader's driver file`);
  process.exit(1);
}
const wanted = ["subgroups", "shader-f16"].filter((feature) => adapter.features.has(feature));
if (!wanted.includes("subgroups")) {
  console.error("this adapter has no subgroups: kernels that use them can't be compiled on it");
  process.exit(1);
}
const device = await adapter.requestDevice({ requiredFeatures: wanted });

async function message({ name, wgsl }) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: name, code: wgsl });
  const { messages } = await module.getCompilationInfo();
  const errors = messages
    .filter((message) => message.type === "error")
    .map((message) => `${message.lineNum}:${message.linePos} ${message.message}`);
  const error = await device.popErrorScope();
  if (errors.length > 0 || error) return errors.join("\n") || error.message;
  if (backend === "vulkan") {
    const made = device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    return await made.then(() => null, (failure) => failure.message);
  }
  return null;
}

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await message(JSON.parse(line))));
}
process.exit(0);
