// sunfleck away from the page's thread, as the demo has it.
import { Device, Generator } from '/sunfleck/index.js';

async function measure({ model, prompt, tokens, context, turns }) {
  const begun = performance.now();
  const since = () => (performance.now() - begun) / 1000;
  const device = await Device.request();
  const generator = await Generator.load(model, { device, context });
  const load = since();
  const answer = async (options, maxTokens = tokens) => {
    const started = performance.now();
    let first;
    const answer = generator.generate(prompt, { raw: true, maxTokens, ...options });
    let text = '';
    for await (const piece of answer) {
      first ??= (performance.now() - started) / 1000;
      text += piece.text;
    }
    const { tokensPerSecond, tokensPerStep, explained } = await answer.result;
    return { text, first, tokensPerSecond, tokensPerStep, explained };
  };
  await answer({ drafter: 'none' }, 1);
  const firstToken = since();
  await generator.compiled();
  const compiled = since();
  const plain = { drafter: 'none' };
  const contenders = { ngram: {}, adaptive: { tree: 'auto' } };
  const runs = { plain: [], ngram: [], adaptive: [] };
  if (turns > 0) {
    const measuring = performance.now();
    await answer(contenders.adaptive, 1); // measures the costs
    runs.measured = (performance.now() - measuring) / 1000;
    runs.plain.push(await answer(plain));
  }
  // Plain decoding stands before and after each contender: on a machine that others use, neighbours are alike.
  for (let turn = 0; turn < turns; turn++) {
    for (const [name, options] of Object.entries(contenders)) {
      const before = runs.plain.at(-1);
      const run = await answer(options);
      runs.plain.push(await answer(plain));
      runs[name].push({ ...run, ofPlain: (2 * run.tokensPerSecond) / (before.tokensPerSecond + runs.plain.at(-1).tokensPerSecond) });
    }
  }
  const { adapterInfo, capabilities } = device;
  const adapter = [adapterInfo.vendor, adapterInfo.architecture, adapterInfo.device, adapterInfo.description].filter(Boolean).join(' ');
  return { load, firstToken, compiled, cache: generator.cache.state, runs, adapter, capabilities };
}

addEventListener('message', async ({ data }) => {
  try {
    postMessage({ result: await measure(data) });
  } catch (error) {
    postMessage({ error: String(error?.message ?? error) });
  }
});
