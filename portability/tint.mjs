// Compiles WGSL with Tint, inside Dawn. Reads [{name, wgsl}] from standard input, writes a list of null or errors.
// Argument: the folder node_modules that has the package `webgpu`.
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { text } from "node:stream/consumers";

const require = createRequire(resolve(process.argv[2], "here.js"));
const { create, globals } = require("webgpu");
Object.assign(globalThis, globals);

const kernels = JSON.parse(await text(process.stdin));
const gpu = create(["backend=vulkan"]);
const adapter = await gpu.requestAdapter();
if (!adapter) {
  console.error("Dawn found no Vulkan adapter; VK_DRIVER_FILES may name SwiftShader's driver file");
  process.exit(1);
}
const wanted = ["subgroups", "shader-f16"].filter((feature) => adapter.features.has(feature));
if (!wanted.includes("subgroups")) {
  console.error("this adapter has no subgroups: kernels that use them can't be compiled on it");
  process.exit(1);
}
const device = await adapter.requestDevice({ requiredFeatures: wanted });

const answers = [];
for (const { name, wgsl } of kernels) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: name, code: wgsl });
  const { messages } = await module.getCompilationInfo();
  const errors = messages
    .filter((message) => message.type === "error")
    .map((message) => `${message.lineNum}:${message.linePos} ${message.message}`);
  const error = await device.popErrorScope();
  answers.push(errors.length > 0 ? errors.join("\n") : (error?.message ?? null));
}
process.stdout.write(JSON.stringify(answers), () => process.exit(0));
