// The page in a real browser, with every state that a visitor can meet.
// node tests/browser.mjs --browser chromium|firefox --program PATH --model FILE.gguf --expected FILE.json
//   [--prompt TEXT] [--screenshots FOLDER] [--brief]
// `expected` is what `sunfleck generate --raw --temperature 0 --json` printed for the same prompt and model.

import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import puppeteer from 'puppeteer-core';
import { tinyDrafter } from '../../wasm/tests/tiny-drafters.mjs';
import { serve } from '../serve.mjs';

const { values: options } = parseArgs({
  options: {
    browser: { type: 'string' },
    program: { type: 'string' },
    model: { type: 'string' },
    expected: { type: 'string' },
    prompt: { type: 'string', default: 'the cat' },
    screenshots: { type: 'string', default: 'screenshots' },
    brief: { type: 'boolean', default: false },
    patience: { type: 'string', default: '240' },
  },
});
const patience = Number(options.patience) * 1000;
const expected = JSON.parse(await readFile(options.expected, 'utf8'));
const root = fileURLToPath(new URL('../dist', import.meta.url));
const home = await mkdtemp(path.join(tmpdir(), 'sunfleck-browser-'));
await mkdir(options.screenshots, { recursive: true });

/** Starts the browser; without WebGPU where `webgpu` is false. */
async function launch(webgpu) {
  const common = { executablePath: options.program, headless: true, protocolTimeout: patience + 30_000, env: { ...process.env, HOME: home, XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? home } };
  if (options.browser === 'firefox') {
    return puppeteer.launch({
      ...common,
      browser: 'firefox',
      extraPrefsFirefox: { 'dom.webgpu.enabled': webgpu, 'gfx.webgpu.ignore-blocklist': true },
    });
  }
  const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
  const gpu = ['--disable-gpu-sandbox', '--enable-unsafe-webgpu', '--ignore-gpu-blocklist', '--use-vulkan=native', '--enable-features=Vulkan,WebGPU'];
  return puppeteer.launch({ ...common, args: ['--no-sandbox', ...quiet, ...(webgpu ? gpu : ['--disable-features=WebGPU', '--disable-gpu'])] });
}

// A drafter for the model of random numbers, with the tokens it may draft.
const drafters = path.join(home, 'drafters');
await mkdir(drafters);
await writeFile(path.join(drafters, 'medusa.safetensors'), tinyDrafter('medusa'));
await writeFile(path.join(drafters, 'token_rank.json'), JSON.stringify(Array.from({ length: 256 }, (_, i) => i + 3)));

const server = await serve({ root, model: path.resolve(options.model), drafters: options.brief ? undefined : drafters });
let passed = 0;
const failures = [];

async function test(name, run) {
  const begun = performance.now();
  try {
    await run();
    passed++;
    console.log(`ok   ${options.browser}: ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failures.push(name);
    console.log(`FAIL ${options.browser}: ${name}\n${error.stack ?? error}`);
  }
}

/** A page that notes what must not happen: complaints, requests elsewhere, violations of the policy. */
async function open(browser, before = async () => {}) {
  const page = await browser.newPage();
  page.setDefaultTimeout(patience);
  await page.setViewport({ width: 1280, height: 900 });
  const noted = { errors: [], elsewhere: [], violations: [] };
  page.on('pageerror', (error) => noted.errors.push(String(error)));
  page.on('request', (request) => {
    const url = request.url();
    if (!url.startsWith(server.url) && !/^(blob|data|about):/.test(url)) noted.elsewhere.push(url);
  });
  await page.evaluateOnNewDocument(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
  });
  await before(page);
  await page.goto(server.url);
  noted.check = async () => {
    noted.violations = await page.evaluate(() => window.violations);
    assert.deepEqual([noted.errors, noted.elsewhere, noted.violations], [[], [], []]);
  };
  return { page, noted };
}

const text = (page, id) => page.$eval(`#${id}`, (element) => element.textContent);
const shot = (page, name) => page.screenshot({ path: path.join(options.screenshots, `${options.browser}-${name}.png`), fullPage: true });
const modelRequests = () => server.requests.filter(({ pathname }) => pathname.endsWith('.gguf'));

async function until(page, what, condition, ...rest) {
  try {
    await page.waitForFunction(condition, { polling: 100, timeout: patience }, ...rest);
  } catch (error) {
    const state = await page.evaluate(() => [document.querySelector('#model-status')?.textContent, document.querySelector('#alert')?.textContent, document.querySelector('#summary')?.textContent]);
    throw new Error(`waited for ${what}: ${error.message}; the page says ${JSON.stringify(state)}`);
  }
}

const ready = (page) => until(page, 'the page', () => document.documentElement.dataset.ready === 'true');
const loaded = (page) => until(page, 'the model', () => document.querySelector('#model-dot').className === 'dot ready');
const idle = (page) => until(page, 'the end of the answer', () => !document.querySelector('#run').hidden);
const alerted = (page) => until(page, 'an alert', () => !document.querySelector('#alert').hidden);

/** Sets a control as a visitor would, and tells the page. */
const set = (page, id, value) =>
  page.$eval(
    `#${id}`,
    (element, value) => {
      if (element.type === 'checkbox') element.checked = value;
      else element.value = value;
      element.dispatchEvent(new Event('change', { bubbles: true }));
    },
    value,
  );
const click = (page, id) => page.$eval(`#${id}`, (element) => element.click());

async function write(page, maxTokens) {
  await set(page, 'prompt', options.prompt);
  await set(page, 'set-raw', true);
  await set(page, 'set-max-tokens', String(maxTokens));
  await click(page, 'run');
}

const answer = (page) => page.$$eval('#output span:not(.given)', (spans) => spans.map((span) => span.textContent).join(''));

/** Script for the worker: files take `bytes` in all, and then the disk is full. */
const fullAfter = (bytes) => `{
  const { prototype } = FileSystemSyncAccessHandle;
  const { write } = prototype;
  let left = ${bytes};
  prototype.write = function (data, options) {
    left -= data.byteLength;
    if (left < 0) throw new DOMException('the quota has been exceeded', 'QuotaExceededError');
    return write.call(this, data, options);
  };
}`;

/** Milliseconds of the tasks on the thread that draws the page: the processor's, and the clock's. */
function tasksOfPage(events) {
  const main = events.filter(({ name, args }) => name === 'thread_name' && args.name === 'CrRendererMain');
  const threads = new Set(main.map(({ pid, tid }) => `${pid}/${tid}`));
  const tasks = events.filter(({ name, ph, pid, tid }) => ph === 'X' && /RunTask$/.test(name) && threads.has(`${pid}/${tid}`));
  // On a machine that others use the clock goes on while a task waits for a processor.
  const within = (task) => {
    const parts = events.filter(({ ph, pid, tid, ts, dur = 0 }) => ph === 'X' && pid === task.pid && tid === task.tid && ts > task.ts && ts + dur <= task.ts + task.dur);
    const longest = parts.sort((a, b) => (b.dur ?? 0) - (a.dur ?? 0)).slice(0, 6);
    return longest.map(({ name, dur = 0 }) => `${name} ${(dur / 1000).toFixed(1)}`).join(', ');
  };
  return tasks.map((task) => ({ own: (task.tdur ?? task.dur ?? 0) / 1000, wall: (task.dur ?? 0) / 1000, parts: () => within(task) }));
}

let closedAfter = 0;
const browser = await launch(true);
try {
  console.log(await browser.version());
  const { page, noted } = await open(browser);

  await test('the page finds a device, and downloads nothing before it is asked', async () => {
    await ready(page);
    await shot(page, 'start');
    assert.equal(modelRequests().length, 0);
    await noted.check();
  });

  if (!options.brief) {
    await test('a stopped download goes on where it ended', async () => {
      Object.assign(server.faults, { delay: 400, chunk: 4096 });
      await click(page, 'load');
      await until(page, 'the first bytes', () => /^[1-9]\d\.\d KB/.test(document.querySelector('#progress-text').textContent));
      await shot(page, 'loading');
      await click(page, 'load-stop');
      await until(page, 'the stop', () => document.querySelector('#model-status').textContent.startsWith('Stopped'));
    });

    await test('a tab that is closed while it downloads leaves what arrived', async () => {
      const { page: tab } = await open(browser);
      await ready(tab);
      const before = modelRequests().length;
      await click(tab, 'load');
      await until(tab, 'more bytes', () => /going on at/.test(document.querySelector('#progress-text').textContent));
      const [, from] = /^bytes=(\d+)-$/.exec(modelRequests().at(-1).range);
      await until(tab, 'even more bytes', (from) => Number.parseFloat(document.querySelector('#progress-text').textContent) * 1000 > Number(from) + 8192, from);
      await tab.close();
      assert.equal(modelRequests().length, before + 1);
      delete server.faults.delay;
      delete server.faults.chunk;
      closedAfter = Number(from) + 4096;
    });

    await test('a broken connection is taken up again', async () => {
      server.faults.cutAfter = 8192;
      server.faults.chunk = 4096;
      await click(page, 'load');
      await loaded(page);
      delete server.faults.chunk;
      const ranges = modelRequests().map(({ range }) => range);
      assert.ok(ranges.length >= 3 && ranges.slice(1).every((range) => /^bytes=[1-9]\d*-$/.test(range)), JSON.stringify(ranges));
      assert.match(await text(page, 'model-status'), /downloaded from .* on, and kept/);
      // What the closed tab had received was not asked for again.
      const first = Number(/\d+/.exec(ranges[2])[0]);
      assert.ok(first >= closedAfter, `${first} of ${closedAfter}`);
    });
  } else {
    await test('the model loads', async () => {
      await click(page, 'load');
      await loaded(page);
      console.log(`     ${await text(page, 'model-status')}`);
    });
  }

  await test(`${expected.tokens.length} greedy tokens are those of the native program`, async () => {
    await set(page, 'set-probabilities', false);
    await write(page, expected.tokens.length);
    await idle(page);
    assert.equal(await answer(page), expected.text);
    console.log(`     ${await text(page, 'stat-speed')} tokens/s, first token after ${await text(page, 'stat-first')}`);
    await shot(page, 'answer');
  });

  await test('race: both texts are the same', async () => {
    await click(page, 'tab-race');
    await set(page, 'race-prompt', options.prompt);
    await set(page, 'set-max-tokens', options.brief ? '8' : '24');
    await click(page, 'race-run');
    await until(page, 'the verdict', () => document.querySelector('#race-verdict').dataset.same !== undefined);
    console.log(`     ${await text(page, 'race-verdict')}`);
    assert.equal(await page.$eval('#race-verdict', (element) => element.dataset.same), 'true');
    await shot(page, 'race');
    await click(page, 'tab-write');
  });

  await test('an answer can be stopped, and the next one is whole', async () => {
    // The small model answers within moments: it is stopped by the page as soon as there is text.
    await set(page, 'set-drafter', 'none');
    await page.evaluate(() => {
      const output = document.querySelector('#output');
      const observer = new MutationObserver(() => {
        if (!output.querySelector('span:not(.given)')) return;
        observer.disconnect();
        document.querySelector('#stop').click();
      });
      observer.observe(output, { childList: true });
    });
    await write(page, 800);
    await idle(page);
    assert.equal(await text(page, 'summary'), 'Stopped.');
    await set(page, 'set-drafter', 'ngram');
    await write(page, 6);
    await idle(page);
    assert.match(await text(page, 'summary'), /^6 tokens in/);
    await noted.check();
  });

  if (!options.brief) {
    await test('sampling with a tree: one seed gives one text', async () => {
      const answers = [];
      for (const seed of ['7', '7', '8']) {
        for (const [id, value] of [['set-temperature', '1'], ['set-tree', 'nodes:16'], ['set-probabilities', true], ['set-seed', seed]]) await set(page, id, value);
        await write(page, 24);
        await idle(page);
        answers.push(await answer(page));
      }
      // What was drafted beside the kept path has a probability too.
      const numbers = await page.$$eval('#tree g', (nodes) => nodes.map((node) => [node.getAttribute('class'), node.querySelector('.probability') !== null]));
      assert.ok(numbers.some(([kind]) => kind === 'bonus') && numbers.every(([kind, has]) => has || kind === 'root' || kind === 'dropped'), JSON.stringify(numbers));
      const sure = numbers.filter(([kind, has]) => kind === 'dropped' && has).length;
      assert.ok(sure > 0 || !numbers.some(([kind]) => kind === 'dropped'), JSON.stringify(numbers));
      assert.equal(answers[0], answers[1]);
      assert.notEqual(answers[0], answers[2]);
      for (const [id, value] of [['set-temperature', '0'], ['set-tree', '']]) await set(page, id, value);
    });
  }

  if (!options.brief) {
    await test('a trained drafter is loaded when it is asked for, and changes nothing', async () => {
      assert.ok(await page.$eval('#set-drafter option[value=mtp]', (option) => option.disabled));
      await set(page, 'set-drafter', 'medusa');
      await write(page, expected.tokens.length);
      await idle(page);
      assert.equal(await answer(page), expected.text);
      assert.match(await text(page, 'tree-note'), /step \d+:/);
      await set(page, 'set-drafter', 'ngram');
    });

    await test('an adaptive tree changes nothing, and says what it chose', async () => {
      await set(page, 'set-tree', 'auto');
      await write(page, expected.tokens.length);
      await idle(page);
      assert.equal(await answer(page), expected.text);
      assert.match(await page.$eval('#explained pre', (element) => element.textContent), /choice/);
      await shot(page, 'adaptive');
      await set(page, 'set-tree', '');
    });

    await test('a grammar holds the answer, and a wrong one is told', async () => {
      await set(page, 'set-grammar-kind', 'regex');
      await set(page, 'set-grammar', '(yes|no) and [0-9]{2}');
      await write(page, 20);
      await idle(page);
      assert.match(await answer(page), /^(yes|no) and [0-9]{2}$/);
      await set(page, 'set-grammar', '(yes');
      await write(page, 20);
      await alerted(page);
      assert.equal(await page.$eval('#alert', (element) => element.dataset.code), 'grammar');
      await page.$eval('#alert button:last-child', (button) => button.click());
      await set(page, 'set-grammar-kind', '');
    });
  }

  await test('the next visit loads from the cache', async () => {
    const before = modelRequests().length;
    await page.reload();
    await ready(page);
    const begun = performance.now();
    await click(page, 'load');
    await loaded(page);
    assert.equal(await page.$eval('#model-status', (element) => element.dataset.cache), 'hit');
    assert.equal(modelRequests().length, before);
    await write(page, 1);
    await idle(page);
    console.log(`     ${await text(page, 'model-status')} The first token came ${((performance.now() - begun) / 1000).toFixed(1)} s after the click.`);
    assert.match(await text(page, 'summary'), /^1 tokens? in/);
  });

  if (!options.brief) {
    await test('what steps cost is not measured again on the next visit', async () => {
      // The visit before measured; this one finds its figures.
      const kept = () => page.evaluate(async () => {
        const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('sunfleck');
        return (await (await folder.getFileHandle('costs')).getFile()).text();
      });
      const before = await kept();
      assert.equal(JSON.parse(before).entries.length, 1);
      await set(page, 'set-tree', 'auto');
      await write(page, expected.tokens.length);
      await idle(page);
      assert.equal(await answer(page), expected.text);
      const verifying = /verifying.*/.exec(await page.$eval('#explained pre', (element) => element.textContent))[0];
      assert.match(verifying, /1: [\d.]+ ms/);
      assert.equal(await kept(), before);
      await set(page, 'set-tree', '');
    });

    await test('without a network the page opens, loads the kept model and writes', async () => {
      await page.evaluate(() => navigator.serviceWorker.ready);
      server.faults.down = true;
      try {
        await page.reload();
        await ready(page);
        await click(page, 'load');
        await loaded(page);
        await write(page, expected.tokens.length);
        await idle(page);
        assert.equal(await answer(page), expected.text);
        await shot(page, 'offline');
      } finally {
        delete server.faults.down;
        await page.reload();
        await ready(page);
        await click(page, 'load');
        await loaded(page);
      }
    });

    await test('a lost device is told, and another one takes its place', async () => {
      await write(page, 400);
      await until(page, 'the first text', () => document.querySelectorAll('#output span:not(.given)').length > 0);
      await page.evaluate(() => document.querySelector('#about-lose').click());
      await alerted(page);
      assert.equal(await page.$eval('#alert', (element) => element.dataset.code), 'device-lost');
      await shot(page, 'lost');
      await idle(page);
      assert.equal(await text(page, 'summary'), 'The device was lost.');
      await loaded(page);
      console.log(`     ${await text(page, 'model-status')}`);
      await write(page, 4);
      await idle(page);
      assert.match(await text(page, 'summary'), /^4 tokens in/);
    });

    await test('a file that is no model is refused', async () => {
      const bad = path.join(home, 'notes.gguf');
      await writeFile(bad, 'These are notes and no model.');
      const input = await page.$('#file');
      await input.uploadFile(bad);
      await alerted(page);
      assert.equal(await page.$eval('#alert', (element) => element.dataset.code), 'model');
      await shot(page, 'bad-file');
      await page.$eval('#alert button:last-child', (button) => button.click());
    });

    await test('a file of the visitor works', async () => {
      const input = await page.$('#file');
      await input.uploadFile(path.resolve(options.model));
      await loaded(page);
      assert.match(await text(page, 'model-status'), /from your file/);
    });

    await test('the device panel says what was chosen', async () => {
      await click(page, 'tab-about');
      await until(page, 'the plans', () => document.querySelectorAll('#about-kernels pre').length === 2);
      assert.match(await text(page, 'about-kernels'), /attention\//);
      await shot(page, 'device');
      console.log(`     ${(await text(page, 'about-adapter')).replace(/\s+/g, ' ').slice(0, 160)}`);
    });

    await test('the kernels measure themselves and agree with the naive ones', async () => {
      await click(page, 'tab-kernels');
      await click(page, 'bench-run');
      await until(page, 'the benchmarks', () => document.querySelector('#bench-peaks').dataset.done === 'true' || !document.querySelector('#alert').hidden);
      const rows = await page.$$eval('#bench-table tbody tr', (rows) => rows.map((row) => row.innerText.replace(/\s+/g, ' ')));
      for (const row of rows) console.log(`     ${row}`);
      assert.equal(rows.length, 4);
      assert.ok(rows.every((row) => !row.includes('✗')));
      await shot(page, 'kernels');
    });

    await test('dark, and on a phone of 360 px, nothing is cut off', async () => {
      await click(page, 'theme');
      await click(page, 'tab-write');
      await shot(page, 'dark');
      await page.setViewport({ width: 360, height: 740 });
      for (const tab of ['write', 'race', 'kernels', 'about']) {
        await click(page, `tab-${tab}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= 360, `${tab} is ${wide} px wide`);
        await shot(page, `phone-${tab}`);
      }
      await noted.check();
    });

    if (options.browser === 'chromium') {
      await test('no task of the page takes more than 50 ms, from its start to the end of an answer', async () => {
        await page.close();
        const { page: traced } = await open(browser, (page) => page.tracing.start({ categories: ['toplevel', 'disabled-by-default-devtools.timeline'] }));
        await ready(traced);
        await click(traced, 'load');
        await loaded(traced);
        await write(traced, 48);
        await idle(traced);
        const tasks = tasksOfPage(JSON.parse(Buffer.from(await traced.tracing.stop()).toString()).traceEvents);
        assert.ok(tasks.length > 100, `${tasks.length} tasks were seen`);
        const longest = Math.max(...tasks.map(({ own }) => own));
        console.log(`     ${tasks.length} tasks, the longest ${longest.toFixed(1)} ms of its own and ${Math.max(...tasks.map(({ wall }) => wall)).toFixed(1)} ms on this machine`);
        console.log(`     in it: ${tasks.find(({ own }) => own === longest).parts()}`);
        assert.ok(longest <= 50);
      });
    }

    await test('a full disk is told, and the model works without being kept', async () => {
      // The site's share of the disk ends within the model's file.
      server.faults.worker = fullAfter(65_536);
      const context = await browser.createBrowserContext();
      try {
        const { page, noted } = await open(context);
        await ready(page);
        await click(page, 'load');
        await loaded(page);
        assert.equal(await page.$eval('#model-status', (element) => element.dataset.cache), 'full');
        assert.match(await text(page, 'model-status'), /not kept: the disk, or this site’s share of it, is full/);
        await write(page, expected.tokens.length);
        await idle(page);
        assert.equal(await answer(page), expected.text);
        await shot(page, 'full-disk');
        // Nothing half is left behind.
        await click(page, 'tab-about');
        await until(page, 'the kept models', () => document.querySelector('#about-cache').textContent !== '');
        assert.equal(await text(page, 'about-cache'), 'None.');
        await noted.check();
      } finally {
        delete server.faults.worker;
        await context.close();
      }
    });
  }
} finally {
  await browser.close();
}

if (!options.brief) {
  const bare = await launch(false);
  try {
    await test('without WebGPU the page says so', async () => {
      const { page } = await open(bare);
      await alerted(page);
      assert.equal(await page.$eval('#alert', (element) => element.dataset.code), 'webgpu-unavailable');
      assert.ok(await page.$eval('#load', (button) => button.disabled));
      await shot(page, 'no-webgpu');
    });
  } finally {
    await bare.close();
  }
}
await server.close();
await rm(home, { recursive: true, force: true });
console.log(`${passed} passed, ${failures.length} failed`);
process.exit(failures.length > 0 ? 1 : 0);
