// The package in Node, on Dawn (npm `webgpu`), with grammars. SUNFLECK_TINY names the model of web-demo/tests/tiny-model.mjs,
// SUNFLECK_EXPECTED what the native program generated with it.

import assert from 'node:assert/strict';
import { openAsBlob } from 'node:fs';
import { readFile } from 'node:fs/promises';
import test, { after, before } from 'node:test';
import * as small from 'sunfleck';
import * as sunfleck from 'sunfleck/grammar';
import { create, globals } from 'webgpu';
import { tinyDrafter } from './tiny-drafters.mjs';

Object.assign(globalThis, globals);
const { Attention, Device, DraftTree, Generator, Verify, lengths } = sunfleck;
const gpu = create(['backend=vulkan']);
let device;
let generator;
const prompt = 'the cat';
const expected = JSON.parse(await readFile(process.env.SUNFLECK_EXPECTED, 'utf8'));
const tiny = () => openAsBlob(process.env.SUNFLECK_TINY);

before(async () => {
  device = await Device.request({ gpu });
  generator = await Generator.load(await tiny(), { device, context: 256 });
});
after(() => device.gpuDevice.destroy());

function noise(count) {
  let x = 1;
  return Float32Array.from({ length: count }, () => ((x = (Math.imul(x, 1664525) + 1013904223) >>> 0) / 2147483648) - 1);
}

test('subgroups are used where the probe finds them', () => {
  const { subgroups, compiler } = device.capabilities;
  assert.equal(device.gpuDevice.features.has('subgroups'), subgroups !== null, device.subgroupsNote);
  assert.equal(compiler, subgroups ? 'tint' : 'naga');
});

test('attention on typed arrays is what its definition says', async () => {
  const [heads, kvHeads, dim, queries, keys] = [4, 2, 16, 3, 40];
  const plan = await Attention.prepare(device, { queryHeads: heads, kvHeads, headDim: dim, maxQueries: 4, maxKeys: 64 });
  assert.match(plan.explain(), /attention\//);
  const all = noise((queries * heads + 2 * keys * kvHeads) * dim);
  const query = all.slice(0, queries * heads * dim);
  const key = all.slice(query.length, query.length + keys * kvHeads * dim);
  const value = all.slice(query.length + key.length);
  const output = await plan.run({ query, key, value });
  assert.equal(output.length, query.length);
  for (let q = 0; q < queries; q++) {
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const visible = keys - queries + q + 1;
      const at = (array, token, count, h, i) => array[(token * count + h) * dim + i];
      const scores = Array.from({ length: visible }, (_, k) => {
        let dot = 0;
        for (let i = 0; i < dim; i++) dot += at(query, q, heads, head, i) * at(key, k, kvHeads, kvHead, i);
        return Math.exp(dot / Math.sqrt(dim));
      });
      const total = scores.reduce((a, b) => a + b);
      for (let i = 0; i < dim; i++) {
        const sum = scores.reduce((a, score, k) => a + score * at(value, k, kvHeads, kvHead, i), 0);
        // Sums of 40 f32 products of numbers below 1.
        assert.ok(Math.abs(sum / total - at(output, q, heads, head, i)) < 1e-5);
      }
    }
  }
});

test('attention records into the buffers and the encoder of the page', async () => {
  const shape = { queryHeads: 1, kvHeads: 1, headDim: 4, maxQueries: 1, maxKeys: 2 };
  const plan = await Attention.prepare(device, shape);
  const output = device.storage(16);
  // One key is seen with weight 1 where the other scores far lower.
  const io = {
    query: device.buffer(new Float32Array([100, 0, 0, 0])),
    key: device.buffer(new Float32Array([1, 0, 0, 0, -1, 0, 0, 0])),
    value: device.buffer(new Float32Array([1, 2, 3, 4, 5, 6, 7, 8])),
    output,
    lengths: device.buffer(lengths([[1, 2]])),
  };
  const encoder = device.gpuDevice.createCommandEncoder();
  plan.bind(io).encode(encoder, 1, 2);
  device.gpuDevice.queue.submit([encoder.finish()]);
  assert.deepEqual([...new Float32Array(await device.read(output))], [1, 2, 3, 4]);
  const { key: _, ...missing } = io;
  assert.throws(() => plan.bind(missing), sunfleck.ArgumentError);
  assert.throws(() => plan.bind({ ...io, key: device.storage(4) }), sunfleck.AttentionError);
});

test('wrong arguments are refused with the right class and a message that says what was given', async () => {
  const problem = { queryHeads: 3, kvHeads: 2, headDim: 64, maxQueries: 1, maxKeys: 8 };
  await assert.rejects(Attention.prepare(device, problem), sunfleck.AttentionError);
  await assert.rejects(Attention.prepare(device, { ...problem, kvHeads: 1, masc: 'none' }), /masc/);
  await assert.rejects(Attention.prepare(device, { ...problem, kvHeads: -1 }), sunfleck.ArgumentError);
  assert.throws(() => DraftTree.fromParents([1, 2], [null, 5]), sunfleck.TreeError);
  assert.throws(() => DraftTree.chain(1.5, []), sunfleck.ArgumentError);
  await assert.rejects(Generator.load(42, { device }), sunfleck.ArgumentError);
  await assert.rejects(Generator.load(new Blob(['no model']), { device }), sunfleck.ModelError);
  assert.throws(() => lengths([[3, 2]]), sunfleck.ArgumentError);
  await assert.rejects(Device.request({ gpu: { requestAdapter: async () => null } }), sunfleck.WebGpuUnavailableError);
});

test('draft trees: shape, mask, text and picture', () => {
  const tree = DraftTree.merge(7, [[1, 2], [1, 3], [4]], 8);
  assert.deepEqual([...tree.tokens], [7, 1, 2, 3, 4]);
  assert.deepEqual(tree.parents, [null, 0, 1, 1, 0]);
  assert.deepEqual([...tree.depths], [0, 1, 2, 2, 1]);
  assert.ok(tree.sees(3, 1) && !tree.sees(3, 2));
  assert.deepEqual(tree.pathTo(3), [0, 1, 3]);
  assert.equal(tree.pathTo(9), undefined);
  assert.equal(tree.toString({ probabilities: [1, 0.5, 0.25, 0.125, 0.0625], path: [0, 1] }), '7 *\n├─ 1 0.500 *\n│  ├─ 2 0.250\n│  └─ 3 0.125\n└─ 4 0.062\n');
  const svg = tree.toSvg({ texts: ['a', 'b', '<c>', 'd', 'e'] });
  assert.ok(svg.startsWith('<svg ') && svg.includes('&lt;c&gt;'));
});

test('verification keeps what the argmax says, and moves the lengths on', async () => {
  const [maxNodes, vocabulary] = [4, 5];
  const verify = await Verify.prepare(device, { maxNodes, vocabulary });
  const tree = DraftTree.merge(0, [[1], [2, 3]], maxNodes);
  const rows = [[0, 0, 9, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 9], [9, 0, 0, 0, 0]];
  const place = device.buffer(new Uint32Array([tree.length, 17, 0, 0]));
  const call = verify.bind({ logits: device.buffer(new Float32Array(rows.flat())), tree: device.buffer(tree.blob(maxNodes)), lengths: place });
  const submit = () => {
    const encoder = device.gpuDevice.createCommandEncoder();
    call.encode(encoder, { finalise: true });
    device.gpuDevice.queue.submit([encoder.finish()]);
  };
  submit();
  // Token 2 is drafted and kept; token 3 after it is not, and 4 is the bonus.
  const [verdict] = await call.read();
  assert.deepEqual([verdict.path, verdict.tokens], [[0, 2], [2, 4]]);
  assert.deepEqual(new Uint32Array(await device.read(place))[1], 19);
  call.setRequest(0, { rule: 'rejection', temperature: 0.001, seed: 2n ** 63n });
  submit();
  assert.deepEqual((await call.read())[0].tokens, [2, 4]);
  assert.throws(() => call.setRequest(0, { rule: 'lossy-threshold', threshold: 7 }), sunfleck.VerifyError);
  assert.throws(() => call.setRequest(0, { rule: 'no such rule' }), sunfleck.ArgumentError);
});

test('greedy tokens are those of the native program, with and without drafts', async () => {
  for (const options of [{ drafter: 'none' }, { drafter: 'ngram' }, { drafter: 'ngram', matches: 3, draftTokens: 4 }]) {
    const steps = [];
    const answer = generator.generate(prompt, { raw: true, maxTokens: expected.tokens.length, onStep: (step) => steps.push(step), ...options });
    assert.equal(await answer.text(), expected.text);
    const result = await answer.result;
    assert.deepEqual(result.tokenIds, expected.tokens, JSON.stringify(options));
    assert.equal(steps.at(-1).steps, result.steps);
    assert.ok(steps.every((step) => !step.draft || step.draft.path.length === step.draft.probabilities.length || step.draft.probabilities.length === 0));
  }
});

test('greedy tokens do not depend on subgroups or run-time checks', async () => {
  for (const variant of [{ floor: true }, { checked: true }]) {
    const other = await Device.request({ gpu, ...variant });
    const same = await Generator.load(await tiny(), { device: other, context: 256 });
    const answer = same.generate(prompt, { raw: true, maxTokens: expected.tokens.length });
    await answer.text();
    assert.deepEqual((await answer.result).tokenIds, expected.tokens, JSON.stringify(variant));
    same.dispose();
    other.gpuDevice.destroy();
  }
});

test('trained drafters load and change no greedy token, alone, after look-up and held to trees', async () => {
  const maxTokens = expected.tokens.length;
  for (const [kind, options] of [['mtp', { nodes: 8 }], ['medusa', { nodes: 8 }], ['exit', { layers: 1, tokens: 3 }]]) {
    await generator.loadDrafter({ kind, weights: tinyDrafter(kind), ...options });
    for (const how of [{ drafter: kind }, { drafter: `ngram+${kind}` }, { drafter: kind, tree: { chain: 2 } }, { drafter: kind, tree: { nodes: 6 } }]) {
      const drafts = [];
      const unread = [];
      const onStep = ({ draft }) => {
        if (!draft) return;
        drafts.push(draft.tokens.length);
        unread.push(...draft.tokens.filter((token) => token === null));
      };
      const answer = generator.generate(prompt, { raw: true, maxTokens, onStep, ...how });
      assert.equal(await answer.text(), expected.text, JSON.stringify(how));
      const result = await answer.result;
      assert.deepEqual(result.tokenIds, expected.tokens, JSON.stringify(how));
      assert.ok(result.drafted > 0, JSON.stringify(how));
      // Whoever hears of steps sees whole drafts, also those that never left the GPU.
      assert.deepEqual(unread, [], JSON.stringify(how));
      const most = how.tree?.nodes ?? how.tree?.chain + 1;
      if (how.tree) assert.ok(drafts.every((nodes) => nodes <= most), `${drafts} of ${JSON.stringify(how)}`);
    }
  }
  assert.deepEqual(generator.describe().drafters, ['mtp', 'medusa', 'exit']);
  await assert.rejects(generator.loadDrafter({ kind: 'luck', weights: tinyDrafter('exit') }), sunfleck.ArgumentError);
  await assert.rejects(generator.loadDrafter({ kind: 'exit', weights: tinyDrafter('mtp') }), sunfleck.ModelError);
  await assert.rejects(generator.generate(prompt, { drafter: 'ngram+luck' }).text(), sunfleck.ArgumentError);
  await assert.rejects(generator.generate(prompt, { tree: { nodes: 0 } }).text(), sunfleck.ArgumentError);
});

test('chains are drawn by chance where that is asked for: one seed, one text', async () => {
  const kind = 'exit';
  const write = async (options) => {
    const answer = generator.generate(prompt, { raw: true, maxTokens: 16, drafter: kind, tree: { chain: 3 }, ...options });
    await answer.text();
    return answer.result;
  };
  const drawn = { temperature: 1.5, seed: 5, drafts: 'drawn' };
  const [one, again, likeliest] = [await write(drawn), await write(drawn), await write({ ...drawn, drafts: 'likeliest' })];
  assert.deepEqual(one.tokenIds, again.tokenIds, kind);
  assert.deepEqual([one.drafted, one.accepted], [again.drafted, again.accepted]);
  // Other random numbers decide what the text is: a model of random numbers is hardly sure of any token.
  assert.notDeepEqual(one.tokenIds, likeliest.tokenIds, kind);
  assert.ok(one.drafted > 0, kind);
  // Without a temperature nothing is left to chance.
  const greedy = await write({ drafts: 'drawn', maxTokens: expected.tokens.length });
  assert.deepEqual(greedy.tokenIds, expected.tokens, kind);
  await assert.rejects(generator.generate(prompt, { drafts: 'luck' }).text(), sunfleck.ArgumentError);
});

test('an adaptive tree measures, says what it chose, and changes no greedy token', async () => {
  const options = { raw: true, maxTokens: expected.tokens.length, tree: 'auto' };
  const answer = generator.generate(prompt, options);
  assert.equal(await answer.text(), expected.text);
  assert.match((await answer.result).explained, /verifying +1: .* ms[^]*choice +/);
  const plain = generator.generate(prompt, { raw: true, maxTokens: 4 });
  await plain.text();
  assert.equal((await plain.result).explained, null);
  // What was measured is not measured again, in another load neither.
  const { costs } = generator;
  assert.deepEqual(Object.keys(costs), ['ngram']);
  const other = await Generator.load(await tiny(), { device, context: 64, costs: { ...costs, exit: 'no costs', 'ngram+exit': costs.ngram } });
  const before = other.costs;
  assert.deepEqual(Object.keys(before).sort(), ['ngram', 'ngram+exit']);
  const known = other.generate(prompt, options);
  assert.equal(await known.text(), expected.text);
  assert.match((await known.result).explained, /choice/);
  assert.deepEqual(other.costs, before);
  other.dispose();
  // What is not measured yet would forget the sequence.
  await assert.rejects(generator.generate('again', { ...options, drafter: 'exit', continue: true }).text(), /without `continue`/);
});

test('a grammar holds an answer to it, with and without drafts', async () => {
  const write = async (grammar, more = {}) => {
    const answer = generator.generate(prompt, { raw: true, maxTokens: 40, grammar, ...more });
    const text = await answer.text();
    return { text, ...(await answer.result) };
  };
  const pattern = '(cat|dog|the )[a-f]{3,6}!';
  const plain = await write({ regex: pattern }, { drafter: 'none' });
  assert.match(plain.text, new RegExp(`^${pattern}$`));
  assert.equal(plain.finish, 'end');
  for (const more of [{ drafter: 'ngram', matches: 3 }, { drafter: 'medusa' }]) {
    assert.equal((await write({ regex: pattern }, more)).text, plain.text, JSON.stringify(more));
  }
  const schema = { type: 'object', properties: { pet: { enum: ['cat', 'dog'] }, age: { type: 'integer', minimum: 0, maximum: 9 } }, required: ['pet', 'age'], additionalProperties: false, 'x-guidance': { whitespace_flexible: false } };
  for (const jsonSchema of [schema, JSON.stringify(schema)]) {
    const { pet, age } = JSON.parse((await write({ jsonSchema }, { temperature: 1, seed: 3 })).text);
    assert.ok(['cat', 'dog'].includes(pet) && Number.isInteger(age), `${pet} ${age}`);
  }
  await assert.rejects(write({ regex: '(a' }), sunfleck.GrammarError);
  await assert.rejects(write({ jsonSchema: '{' }), sunfleck.GrammarError);
  await assert.rejects(write({ pattern }), sunfleck.ArgumentError);
});

test('the build without grammars gives the same tokens, and says where grammars are', async () => {
  const other = await small.Device.request({ gpu });
  const same = await small.Generator.load(await tiny(), { device: other, context: 64 });
  const answer = same.generate(prompt, { raw: true, maxTokens: expected.tokens.length });
  assert.equal(await answer.text(), expected.text);
  await assert.rejects(same.generate(prompt, { grammar: { regex: 'a' } }).text(), { name: 'GrammarError', message: /sunfleck\/grammar/ });
  same.dispose();
  other.gpuDevice.destroy();
});

test('log-probabilities are those of the whole vocabulary and of what was sampled from', async () => {
  const seen = [];
  const onStep = (step) => {
    seen.push(...step.new);
    for (const [i, place] of (step.draft?.likeliest ?? []).entries()) {
      assert.equal(place.length, 3);
      assert.ok(place[0].probability >= step.draft.probabilities[i] - 1e-6);
    }
  };
  await generator.generate(prompt, { raw: true, maxTokens: 6, temperature: 0.5, topK: 1, seed: 2, logProbabilities: 3, onStep }).text();
  assert.equal(seen.length, 6);
  for (const { id, logProbability, processedLogProbability, probability, likeliest } of seen) {
    assert.deepEqual([likeliest.length, likeliest[0].id], [3, id]);
    // Two kernels that sum up the vocabulary in orders of their own.
    assert.ok(Math.abs(likeliest[0].logProbability - logProbability) < 1e-5);
    assert.ok(likeliest[0].logProbability >= likeliest[1].logProbability && likeliest[1].logProbability >= likeliest[2].logProbability);
    assert.ok(logProbability < 0 && Math.abs(Math.exp(logProbability) - probability) < 1e-6);
    // The one token that is left is certain.
    assert.ok(Math.abs(processedLogProbability) < 1e-5, `${processedLogProbability}`);
  }
  const none = [];
  await generator.generate(prompt, { raw: true, maxTokens: 2, onStep: (step) => none.push(...step.new) }).text();
  assert.ok(none.every(({ logProbability }) => logProbability === null));
});

test('a seed gives one text, and probabilities come with each step', async () => {
  const sample = async (seed) => {
    const probabilities = [];
    const onStep = (step) => probabilities.push(...step.new.map((token) => token.probability));
    const answer = generator.generate(prompt, { raw: true, maxTokens: 16, temperature: 1, seed, logProbabilities: true, onStep });
    await answer.text();
    const { tokenIds } = await answer.result;
    assert.ok(probabilities.length === tokenIds.length && probabilities.every((p) => p > 0 && p <= 1), JSON.stringify(probabilities));
    return tokenIds;
  };
  assert.deepEqual(await sample(5), await sample(5));
  assert.notDeepEqual(await sample(5), await sample(6));
});

test('an answer ends at a signal, at a stop text, and where the reader leaves the loop', async () => {
  const control = new AbortController();
  const seen = [];
  await assert.rejects(async () => {
    for await (const piece of generator.generate(prompt, { raw: true, maxTokens: 200, signal: control.signal })) {
      seen.push(piece);
      control.abort();
    }
  }, { name: 'AbortError' });
  assert.equal(seen.length, 1);
  for await (const _ of generator.generate(prompt, { raw: true, maxTokens: 200 })) break;
  // Two control characters below are no text of their own: the stop text is found in what is.
  const stop = [...expected.text].at(-1);
  const answer = generator.generate(prompt, { raw: true, maxTokens: 100, stop: [stop] });
  assert.ok(!(await answer.text()).includes(stop));
  assert.equal((await answer.result).finish, 'stop');
});

test('a generator at work refuses other work, and works on afterwards', async () => {
  const answer = generator.generate(prompt, { raw: true, maxTokens: 8 })[Symbol.asyncIterator]();
  const first = answer.next();
  await new Promise((resolve) => setImmediate(resolve));
  assert.throws(() => generator.describe(), sunfleck.GenerateError);
  await assert.rejects(generator.generate(prompt).text(), sunfleck.GenerateError);
  await first;
  await answer.return();
  assert.equal(generator.describe().layers, 2);
});

test('a stream loads while it arrives, and an aborted load says so', async () => {
  const blob = await tiny();
  let told;
  const streamed = await Generator.load(blob.stream(), { device, context: 64, onProgress: (progress) => (told = progress) });
  assert.equal(told.received, blob.size);
  assert.equal(told.uploaded, told.weights);
  streamed.dispose();
  assert.throws(() => streamed.describe(), sunfleck.GenerateError);
  const control = new AbortController();
  const loading = Generator.load(new ReadableStream({ pull: () => new Promise(() => {}) }), { device, signal: control.signal });
  control.abort(new Error('enough'));
  await assert.rejects(loading, /enough/);
});

test('a download is taken up again where it broke, and its checksum is checked', async () => {
  const bytes = new Uint8Array(await (await tiny()).arrayBuffer());
  const asked = [];
  const flaky = async (_, { headers }) => {
    const range = headers.get('range');
    asked.push(range);
    const from = range ? Number(/\d+/.exec(range)[0]) : 0;
    const some = bytes.slice(from, from + 30_000);
    const answer = { 'content-length': String(bytes.length - from), etag: '"1"' };
    let sent = false;
    const body = new ReadableStream({
      pull(controller) {
        if (!sent) controller.enqueue(some);
        else if (from + some.length < bytes.length) controller.error(new Error('the line is dead'));
        else controller.close();
        sent = true;
      },
    }, { highWaterMark: 0 });
    return new Response(body, { status: range ? 206 : 200, headers: answer });
  };
  const url = 'http://models.invalid/tiny.gguf';
  const options = { device, context: 64, fetch: flaky };
  const whole = await Generator.load(url, options);
  assert.deepEqual([asked[0], asked.length > 1, whole.cache.state], [null, true, 'unavailable']);
  await assert.rejects(Generator.load(url, { ...options, sha256: '0'.repeat(64) }), sunfleck.ChecksumError);
  (await Generator.load(url, { ...options, sha256: whole.sha256 })).dispose();
  whole.dispose();
  const gone = async () => new Response('gone', { status: 404 });
  await assert.rejects(Generator.load(url, { ...options, fetch: gone }), { name: 'DownloadError', status: 404 });
});

test('a lost device ends what is under way', async () => {
  const other = await Device.request({ gpu });
  const model = await Generator.load(await tiny(), { device: other, context: 256 });
  await assert.rejects(async () => {
    for await (const _ of model.generate(prompt, { raw: true, maxTokens: 200, ignoreEnd: true })) other.gpuDevice.destroy();
  }, sunfleck.DeviceLostError);
});
