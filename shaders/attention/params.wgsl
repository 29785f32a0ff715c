// What every attention kernel shares: the parameters, the lengths and the softmax's constants.
// Strides are in what a tensor's array has: quads, that is vec4s of f32 and pairs of words of f16 and
// bf16, and words of quantised keys and values.

struct AttentionParams {
    query_heads: u32,
    kv_heads: u32,      // of this dispatch; their keys and values are what is bound
    first_kv_head: u32, // the first of them
    group: u32,       // query heads of one KV head
    max_queries: u32, // capacity; lengths above it are cut
    max_keys: u32,
    total_queries: u32, // tokens of the query tensor, and of the key tensor
    total_keys: u32,
    q_batch: u32,
    q_token: u32,
    q_head: u32,
    k_batch: u32, // from one sequence, or page, to the next
    k_token: u32,
    k_head: u32,
    v_batch: u32,
    v_token: u32,
    v_head: u32,
    o_batch: u32,
    o_token: u32,
    o_head: u32,
    max_spans: u32,   // spans a row of partial states has room for
    chunk_start: u32, // first query of this chunk: the workspace holds some queries at a time
    chunk: u32,       // queries of a sequence that the workspace holds
    tree_words: u32,  // words of a node's ancestor set
    tree_base: u32,   // first word of the ancestor sets in a sequence's tree
    tree_depth: u32,  // first word of the depths
    tree_nodes: u32,  // word that holds the number of nodes
    tree_stride: u32, // words from one sequence's tree to the next
    prefix: u32,      // keys that every query sees
    window: u32,      // keys a query sees, its own the last
    bias_batch: u32,  // f32s from one sequence's bias to the next; 0 broadcasts
    bias_head: u32,
    bias_query: u32,
    bias_size: u32,   // f32s of the bias
    table_stride: u32, // entries of a sequence in the page table
    first_entry: u32, // entry of the first key's page in the table of sequence 0
    first_key: u32,   // keys of each sequence that another call attends to
    pool_pages: u32,
    tree_most: u32,   // nodes that a sequence's tree has room for
    scale: f32,       // softmax scale * log2(e): scores are in the base-2 domain
    softcap: f32,     // softcap * log2(e)
}

// Queries of a sequence, and keys before its first query; `past` wraps where there are fewer keys
// than queries, so that past + queries is the number of keys in any case. In a ragged batch the
// sequences follow each other: the starts are tokens before the sequence's first one.
struct Lengths {
    queries: u32,
    past: u32,
    query_start: u32,
    key_start: u32,
}

@group(0) @binding(0) var<uniform> params: AttentionParams;
@group(0) @binding(1) var<storage, read> lengths: array<Lengths>; // [sequence]

// Score of a masked key, and maximum of a row that has seen none. Finite: -inf - -inf is NaN, and
// Metal's fast mathematics has no infinities.
const MASKED: f32 = -1e30;
const LOG2_E: f32 = 1.4426950408889634;
const LN_2: f32 = 0.6931471805599453;

// The row a score belongs to.
struct Row {
    sequence: u32,
    head: u32,  // query head
    query: u32, // query of the sequence
    past: u32,
}

// Keys of this call before a sequence's first query; it wraps as `past` does. A sequence with no key of
// this call has none.
fn past_of(sequence: u32) -> u32 {
    let own = lengths[sequence];
    return select(own.past - params.first_key, 0u - own.queries, own.past + own.queries < params.first_key);
}

// Tokens before a sequence's first query and first key, kept inside the tensors, also where there is none:
// idle invocations read the token too.
fn first_query(sequence: u32, queries: u32) -> u32 {
    return min(lengths[sequence].query_start, params.total_queries - max(queries, 1u));
}

fn first_key(sequence: u32, keys: u32) -> u32 {
    return min(lengths[sequence].key_start, params.total_keys - max(keys, 1u));
}

fn fma_quad(a: vec4<f32>, b: vec4<f32>, sum: f32) -> f32 {
    return fma(a.w, b.w, fma(a.z, b.z, fma(a.y, b.y, fma(a.x, b.x, sum))));
}
