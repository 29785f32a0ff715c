import { ArgumentError } from './errors.js';
import { call, glue, init } from './module.js';

/** How the children of a node were drawn: chosen without chance, or sampled. */
export type DrawKind = 'top-k' | 'iid' | 'without-replacement';

/** What is drawn beside the tokens. */
export interface TreeDrawing {
  /** Text of each node. Default: token ids. */
  texts?: readonly string[];
  /** Probability of each node; the root's is not shown. */
  probabilities?: readonly number[];
  /** Accepted nodes. */
  path?: readonly number[];
}

/**
 * A draft tree: what may follow the last committed token, which is its node 0. Immutable. The module must be loaded:
 * `await init()`, or any {@link Device}.
 */
export class DraftTree {
  /** @internal */
  readonly inner: glue.DraftTree;

  private constructor(inner: glue.DraftTree) {
    this.inner = inner;
  }

  /** One continuation of `root`. */
  static chain(root: number, tokens: readonly number[]): DraftTree {
    return new DraftTree(call(() => glue.DraftTree.chain(id(root), ids(tokens))));
  }

  /** From the token and the parent of each node, parents before children; the root's parent is null. */
  static fromParents(tokens: readonly number[], parents: readonly (number | null)[], draw: DrawKind = 'top-k'): DraftTree {
    const numbers = parents.map((parent) => parent ?? 0xffffffff);
    return new DraftTree(call(() => glue.DraftTree.fromParents(ids(tokens), ids(numbers), draw)));
  }

  /** Several continuations of `root` with their common beginnings shared, of at most `maxNodes` nodes; earlier ones win. */
  static merge(root: number, sequences: readonly (readonly number[])[], maxNodes: number): DraftTree {
    const lengths = Uint32Array.from(sequences, (sequence) => sequence.length);
    return new DraftTree(call(() => glue.DraftTree.merge(id(root), ids(sequences.flat()), lengths, id(maxNodes))));
  }

  /** Loads the module, without which there are no trees. */
  static ready(): Promise<void> {
    return init();
  }

  /** Nodes, the root included. */
  get length(): number {
    return this.tokens.length;
  }

  get tokens(): Uint32Array {
    return call(() => this.inner.tokens);
  }

  /** Parent of each node; null for the root. */
  get parents(): (number | null)[] {
    return Array.from(call(() => this.inner.parents), (parent) => (parent === 0xffffffff ? null : parent));
  }

  /** Edges from the root to each node. */
  get depths(): Uint32Array {
    return call(() => this.inner.depths);
  }

  /** Whether `ancestor` is on the path from the root to `node`, `node` included: the mask of tree attention. */
  sees(node: number, ancestor: number): boolean {
    return call(() => this.inner.sees(id(node), id(ancestor)));
  }

  /** Nodes from the root to `node`, both included; undefined for a node that is not there. */
  pathTo(node: number): number[] | undefined {
    const path = call(() => this.inner.pathTo(id(node)));
    return path && Array.from(path);
  }

  /** The words that kernels read, with room for `maxNodes` nodes. */
  blob(maxNodes: number): Uint32Array {
    return call(() => this.inner.blob(id(maxNodes)));
  }

  /** A picture: the root on the left, a column a level, the accepted path marked. */
  toSvg(drawing: TreeDrawing = {}): string {
    return this.draw(drawing, true);
  }

  /** Indented lines, one a node. */
  toString(drawing: TreeDrawing = {}): string {
    return this.draw(drawing, false);
  }

  private draw({ texts, probabilities = [], path = [] }: TreeDrawing, svg: boolean): string {
    return call(() => this.inner.draw([...(texts ?? [])], Float32Array.from(probabilities), ids(path), svg));
  }
}

function id(value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffffffff) {
    throw new ArgumentError(`tokens, nodes and counts must be whole numbers from 0 to 2^32 - 1, given ${value}`);
  }
  return value;
}

function ids(values: readonly number[]): Uint32Array {
  return Uint32Array.from(values, id);
}
