// Decoding with the npm package and with wllama (llama.cpp in WebAssembly), on the same file in the same browser.
// node bench/run.mjs --program CHROMIUM --model FILE.gguf --out FILE.json [--tokens N] [--turns N] [--without-wllama]

import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { cpus, loadavg, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import puppeteer from 'puppeteer-core';

const { values: options } = parseArgs({
  options: {
    program: { type: 'string' },
    model: { type: 'string' },
    out: { type: 'string' },
    commit: { type: 'string', default: '' },
    tokens: { type: 'string', default: '32' },
    turns: { type: 'string', default: '3' },
    'without-wllama': { type: 'boolean', default: false },
  },
});
const PROMPT = 'Once upon a time, there was a little robot who';
const here = fileURLToPath(new URL('.', import.meta.url));
const packages = path.join(here, '../node_modules');
const modelPath = `/model/${path.basename(options.model)}`;
const ROOTS = { '/sunfleck/': path.join(packages, 'sunfleck/dist'), '/wllama/': path.join(here, 'node_modules/@wllama/wllama/esm'), '/': here };
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.wasm': 'application/wasm' };

// wllama takes threads only in a page that is isolated from others.
const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, 'http://localhost');
  const [prefix, root] = Object.entries(ROOTS).find(([prefix]) => pathname.startsWith(prefix));
  const file = pathname === modelPath ? options.model : path.join(root, pathname.slice(prefix.length));
  const found = await stat(file).catch(() => undefined);
  if (!found?.isFile()) return response.writeHead(404).end();
  response.writeHead(200, {
    'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream',
    'content-length': found.size,
    'cross-origin-opener-policy': 'same-origin',
    'cross-origin-embedder-policy': 'require-corp',
    'cross-origin-resource-policy': 'same-origin',
  });
  return createReadStream(file).pipe(response);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://localhost:${server.address().port}`;

const home = await mkdtemp(path.join(tmpdir(), 'sunfleck-bench-'));
const gpu = ['--disable-gpu-sandbox', '--enable-unsafe-webgpu', '--ignore-gpu-blocklist', '--use-vulkan=native', '--enable-features=Vulkan,WebGPU'];
const quiet = ['--no-sandbox', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
const browser = await puppeteer.launch({
  executablePath: options.program,
  headless: true,
  protocolTimeout: 1_800_000,
  args: [...quiet, ...gpu],
  env: { ...process.env, HOME: home },
});

/** A page of its own, so that nothing is left of the one before but the cache. */
async function inPage(run, argument) {
  const page = await browser.newPage();
  page.setDefaultTimeout(1_800_000);
  try {
    await page.goto(`${origin}/page.html`);
    await page.waitForFunction(() => window.ready);
    return await page.evaluate(run, argument);
  } finally {
    await page.close();
  }
}

const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
};
const request = { model: `${origin}${modelPath}`, prompt: PROMPT, tokens: Number(options.tokens), context: 1024 };
const report = {
  machine: { browser: await browser.version(), processor: cpus()[0]?.model, cores: cpus().length, load: loadavg()[0], date: new Date().toISOString().replace(/\.\d+/, ''), commit: options.commit },
  model: { file: path.basename(options.model), bytes: (await stat(options.model)).size },
  prompt: PROMPT,
  tokens: request.tokens,
};
const lines = [];
const line = (name, first, speed, note = '') => lines.push([name, first === undefined ? '' : `${first.toFixed(1)} s`, speed === undefined ? '' : speed.toFixed(2), note]);
try {
  const cold = await inPage((request) => window.sunfleck(request), { ...request, turns: 0 });
  const warm = await inPage((request) => window.sunfleck(request), { ...request, turns: Number(options.turns) });
  // What was measured is kept, too.
  const again = await inPage((request) => window.sunfleck(request), { ...request, turns: 1 });
  const { plain, ngram, adaptive, measured } = warm.runs;
  const speed = (runs) => median(runs.map((run) => run.tokensPerSecond));
  const ratio = (runs) => median(runs.map((run) => run.ofPlain));
  const same = [...ngram, ...adaptive].every(({ text }) => text === plain[0].text);
  report.machine.adapter = warm.adapter;
  report.sunfleck = {
    capabilities: warm.capabilities,
    coldLoad: cold.load,
    coldFirstToken: cold.firstToken,
    warmLoad: warm.load,
    warmFirstToken: warm.firstToken,
    warmFirstTokenAgain: again.firstToken,
    warmCompiled: warm.compiled,
    warmCache: warm.cache,
    promptSeconds: median(plain.map((run) => run.first)),
    plain: speed(plain),
    ngram: { tokensPerSecond: speed(ngram), ofPlain: ratio(ngram), tokensPerStep: median(ngram.map((run) => run.tokensPerStep)) },
    adaptive: { tokensPerSecond: speed(adaptive), ofPlain: ratio(adaptive), tokensPerStep: median(adaptive.map((run) => run.tokensPerStep)), measuring: measured, measuringAgain: again.runs.measured, explained: adaptive.at(-1).explained },
    sameText: same,
    text: plain[0].text,
    runs: warm.runs,
  };
  line('sunfleck, plain, first visit', cold.firstToken, undefined, 'download, compilation, prompt');
  line('sunfleck, plain, later visit', warm.firstToken, speed(plain), `from the ${warm.cache === 'hit' ? 'cache' : 'network'}; all kernels after ${warm.compiled.toFixed(1)} s`);
  line('sunfleck, n-gram look-up', undefined, speed(ngram), `${ratio(ngram).toFixed(2)} of plain`);
  line('sunfleck, adaptive tree', undefined, speed(adaptive), `${ratio(adaptive).toFixed(2)} of plain; measured in ${measured.toFixed(1)} s, ${again.runs.measured.toFixed(1)} s the next time`);
  if (!options['without-wllama']) {
    report.wllama = {};
    const cores = Math.max(1, cpus().length);
    const contenders = { oneThread: { threads: 1, gpuLayers: 0 }, threads: { threads: cores, gpuLayers: 0 }, webGpu: { threads: cores, gpuLayers: 999 } };
    for (const [name, how] of Object.entries(contenders)) {
      const label = `wllama, ${{ oneThread: 'one thread', threads: `${cores} threads`, webGpu: 'on the GPU' }[name]}`;
      try {
        const { load, runs } = await inPage((request) => window.wllama(request), { ...request, ...how });
        const best = { ...how, load, firstToken: load + runs[0].firstToken, tokensPerSecond: median(runs.map((run) => run.tokensPerSecond)), runs };
        report.wllama[name] = best;
        line(label, best.firstToken, best.tokensPerSecond, runs[0].text === plain[0].text ? 'the same text' : 'another text');
      } catch (error) {
        report.wllama[name] = { ...how, error: error.message };
        line(label, undefined, undefined, `failed: ${error.message.split('\n')[0].slice(0, 80)}`);
      }
    }
  }
} finally {
  await browser.close();
  server.close();
  server.closeAllConnections();
  await rm(home, { recursive: true, force: true });
}
await mkdir(path.dirname(options.out), { recursive: true });
await writeFile(options.out, `${JSON.stringify(report, null, 2)}\n`);
const rows = [['', 'to the first token', 'tokens/s', ''], ...lines];
const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
console.log(`${report.machine.browser}, ${report.machine.adapter}, ${report.machine.cores} cores, load ${report.machine.load.toFixed(1)} at the start; ${report.model.file}, ${report.tokens} tokens`);
for (const row of rows) console.log(row.map((cell, column) => (column === 1 || column === 2 ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join('  ').trimEnd());
console.log(`written to ${options.out}`);
process.exit(report.sunfleck.sameText ? 0 : 1);
