// Serves the built page, the model and its drafter on this machine only.
// node serve.mjs [--port N] [--model FILE.gguf] [--drafters FOLDER] [--root FOLDER]

import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

export const POLICY = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "worker-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const TYPES = {
  '.css': 'text/css; charset=utf-8',
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.json': 'application/json',
  '.md': 'text/markdown; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
  '.webmanifest': 'application/manifest+json',
};

/**
 * Starts the server. `faults` is for tests: `{ cutAfter }` ends the next answer for a model after so many bytes,
 * `{ delay, chunk }` waits so many milliseconds before each `chunk` bytes of one, `{ worker }` is script that runs
 * in the page's worker before its own, `{ down }` answers nobody.
 */
export async function serve({ root, port = 0, model, drafters, faults = {} }) {
  const models = model ? [{ name: path.basename(model), url: `model/${path.basename(model)}`, bytes: (await stat(model)).size }] : [];
  const trained = [];
  for (const [kind, name] of Object.entries({ mtp: 'mtp', medusa: 'medusa', exit: 'early_exit' })) {
    const file = `${name}.safetensors`;
    if (model && drafters && (await stat(path.join(drafters, file)).catch(() => undefined))) trained.push({ kind, weights: `model/${file}` });
  }
  const vocabulary = 'model/token_rank.json';
  const shared = { '/model/index.json': JSON.stringify({ models, drafters: trained.map((drafter) => ({ ...drafter, vocabulary })) }) };
  const ofDrafters = new Set(trained.length > 0 ? [vocabulary, ...trained.map(({ weights }) => weights)].map((file) => `/${file}`) : []);
  const requests = [];
  const find = (pathname) => {
    if (model && pathname === `/model/${path.basename(model)}`) return model;
    if (ofDrafters.has(pathname)) return path.join(drafters, path.basename(pathname));
    const file = path.join(root, pathname === '/' ? 'index.html' : pathname);
    // A path with `..` in it was resolved by URL already; this guards against anything else.
    return file.startsWith(path.resolve(root) + path.sep) ? file : undefined;
  };
  const server = createServer(async (request, response) => {
    if (faults.down) return request.socket.destroy();
    const headers = {
      'content-security-policy': POLICY,
      'cross-origin-opener-policy': 'same-origin',
      'referrer-policy': 'no-referrer',
      'x-content-type-options': 'nosniff',
    };
    try {
      if (request.method !== 'GET' && request.method !== 'HEAD') return response.writeHead(405, headers).end();
      const pathname = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
      requests.push({ pathname, range: request.headers.range });
      if (pathname in shared) {
        return response.writeHead(200, { ...headers, 'content-type': TYPES['.json'], 'cache-control': 'no-store' }).end(shared[pathname]);
      }
      const file = find(pathname);
      const found = file && (await stat(file).catch(() => undefined));
      if (!found?.isFile()) return response.writeHead(404, headers).end('not found');
      if (faults.worker && /\/worker-[^/]*\.js$/.test(pathname)) {
        const script = `${faults.worker}\n${await readFile(file, 'utf8')}`;
        return response.writeHead(200, { ...headers, 'content-type': TYPES['.js'], 'cache-control': 'no-store' }).end(script);
      }
      const etag = `"${found.size.toString(16)}-${Math.round(found.mtimeMs).toString(16)}"`;
      headers['etag'] = etag;
      headers['accept-ranges'] = 'bytes';
      headers['cache-control'] = 'no-cache';
      headers['content-type'] = TYPES[path.extname(file)] ?? 'application/octet-stream';
      if (request.headers['if-none-match'] === etag) return response.writeHead(304, headers).end();
      const asked = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
      const valid = asked && [undefined, etag].includes(request.headers['if-range']);
      const from = valid ? Number(asked[1]) : 0;
      const to = valid && asked[2] ? Math.min(Number(asked[2]), found.size - 1) : found.size - 1;
      if (valid && from >= found.size) return response.writeHead(416, { ...headers, 'content-range': `bytes */${found.size}` }).end();
      headers['content-length'] = to - from + 1;
      if (valid) headers['content-range'] = `bytes ${from}-${to}/${found.size}`;
      response.writeHead(valid ? 206 : 200, headers);
      if (request.method === 'HEAD' || found.size === 0) return response.end();
      const isModel = file === model;
      const { cutAfter, delay, chunk = 1 << 18 } = isModel ? faults : {};
      if (cutAfter) delete faults.cutAfter;
      let sent = 0;
      for await (const piece of createReadStream(file, { start: from, end: to, highWaterMark: chunk })) {
        if (response.destroyed) return undefined;
        if (delay) await new Promise((resolve) => setTimeout(resolve, delay));
        sent += piece.length;
        if (!response.write(piece)) await drained(response);
        if (cutAfter && sent >= cutAfter) return response.destroy();
      }
      return response.end();
    } catch (error) {
      if (!response.headersSent) return response.writeHead(500, headers).end(String(error));
      return response.destroy();
    }
  });
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return { url: `http://localhost:${server.address().port}/`, requests, faults, close: () => new Promise((resolve) => { server.close(resolve); server.closeAllConnections(); }) };
}

/** When more can be written, or nobody listens any more. */
function drained(response) {
  return new Promise((resolve) => {
    const go = () => {
      response.off('drain', go).off('close', go);
      resolve();
    };
    response.on('drain', go).on('close', go);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: { port: { type: 'string', default: '8080' }, model: { type: 'string' }, drafters: { type: 'string' }, root: { type: 'string' } },
  });
  const root = path.resolve(values.root ?? fileURLToPath(new URL('./dist', import.meta.url)));
  await readFile(path.join(root, 'index.html')).catch(() => {
    console.error(`${root} has no page; build it with: cargo xtask demo`);
    process.exit(1);
  });
  try {
    const { url } = await serve({ root, port: Number(values.port), model: values.model && path.resolve(values.model), drafters: values.drafters && path.resolve(values.drafters) });
    console.log(url);
  } catch (error) {
    console.error(error.code === 'EADDRINUSE' ? `port ${values.port} is taken; choose another with --port` : error);
    process.exit(1);
  }
}
