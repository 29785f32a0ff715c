// The page of run.mjs: each function measures once and returns numbers. Times are in seconds.

/** sunfleck in a worker: a load until the first token, then answers in turns. */
window.sunfleck = (request) =>
  new Promise((resolve, reject) => {
    const worker = new Worker('worker.js', { type: 'module' });
    worker.onerror = (event) => reject(new Error(event.message || 'the worker did not start'));
    worker.onmessage = ({ data }) => {
      worker.terminate();
      if (data.error) reject(new Error(data.error));
      else resolve(data.result);
    };
    worker.postMessage(request);
  });

/** wllama, which has a worker of its own: on the processor, or where `gpuLayers` on the same GPU. */
window.wllama = async ({ model, prompt, tokens, context, threads, gpuLayers }) => {
  const { Wllama } = await import('/wllama/index.js');
  const wllama = new Wllama({ default: '/wllama/wasm/wllama.wasm' }, { suppressNativeLog: true });
  const begun = performance.now();
  const file = await (await fetch(model)).blob();
  await wllama.loadModel([file], { n_ctx: context, n_threads: threads, n_gpu_layers: gpuLayers, seed: 1 });
  const load = (performance.now() - begun) / 1000;
  const runs = [];
  for (let run = 0; run < 2; run++) {
    const started = performance.now();
    let first;
    let last;
    let count = 0;
    let text = '';
    const chunks = await wllama.createCompletion({ prompt, max_tokens: tokens, temperature: 0, cache_prompt: false, stream: true });
    for await (const chunk of chunks) {
      const piece = chunk.choices[0]?.text ?? '';
      if (piece === '') continue;
      last = performance.now();
      first ??= last;
      count++;
      text += piece;
    }
    runs.push({ firstToken: (first - started) / 1000, tokensPerSecond: (count - 1) / ((last - first) / 1000), tokens: count, text });
  }
  const threadsUsed = wllama.getNumThreads?.();
  await wllama.exit();
  return { load, runs, threads: threadsUsed };
};
window.ready = true;
