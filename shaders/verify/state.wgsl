// What verification kernels share: the parameters, and the options of each request. Twins: reference::verify.

struct VerifyParams {
    vocabulary: u32,    // V
    row_stride: u32,    // elements from one row of logits to the next, target and draft
    max_nodes: u32,     // N: rows of logits of a request, stride of the outcome's arrays
    tree_words: u32,    // words of one tree blob
    first_row: u32,     // first row (request * N + node) of the part of the target's logits that is bound
    draft_rows: u32,    // rows of draft logits of a request
    mask_words: u32,    // words of one bit a token: ceil(V / 32)
    mask_rows: u32,     // of a request: 1, or 1 + N with a grammar
    outcome_words: u32, // words from one outcome to the next
    part_rows: u32,     // rows of the part that is bound
    tree_stride: u32,   // nodes that a tree blob has room for, at least N
    blocks: u32,        // of BLOCK tokens: ceil(V / BLOCK)
    kinds: u32,         // rows of statistics a node: 1, or 2 with those of its draft
    marks_at: u32,      // word of scratch where the marks begin
    first_child: u32,   // the children that this dispatch tests, and one past them
    end_child: u32,
    bins_at: u32,       // words of scratch where sums, searches and candidates of cut-offs begin
    searches_at: u32,
    lists_at: u32,
    groups_at: u32,     // where the maxima of groups of tokens begin
    candidates: u32,    // that a list has room for
    top: u32,           // likeliest tokens that are listed beside each kept one
    first_draft: u32,   // first row (request * draft rows + row) of the part of the draft's logits that is bound
    part_drafts: u32,   // rows of that part
    drafts_in_parts: u32, // 1: the draft's logits have several parts
    width: u32,         // rows of a request in the next wave; 0: there is none
}

// How a row of logits becomes a distribution: verify::Sampling.
struct Settings {
    coldness: f32, // 1 / temperature
    top_k: u32,
    top_p: f32,
    min_p: f32,
    repetition: f32,
    presence: f32,
    uses: u32,   // USES_...
    unused: u32,
}

struct Request {
    rule: u32,
    draw: u32,
    seed: vec2<u32>,
    numbers: vec2<f32>, // (epsilon, delta) or (threshold, -)
    unused: vec2<u32>,
    sampling: Settings, // of the target's rows
    drafting: Settings, // of the draft's rows
}

const USES_PENALTY: u32 = 1u;
const USES_GRAMMAR: u32 = 2u;

const RULE_GREEDY: u32 = 0u;
const RULE_REJECTION: u32 = 1u;
const RULE_CHAIN: u32 = 2u;
const RULE_TYPICAL: u32 = 3u;
const RULE_THRESHOLD: u32 = 4u;
const RULE_BLOCK: u32 = 5u;
const RULE_TRAVERSAL: u32 = 6u;

const DRAW_TOP_K: u32 = 0u;
const DRAW_IID: u32 = 1u;

const FLAG_NO_SUPPORT: u32 = 1u; // no token may follow a node on the path
const FLAG_IMPOSSIBLE_DRAFT: u32 = 4u; // a tested token has probability 0 in its draft distribution
const FLAG_NOT_A_CHAIN: u32 = 8u;
const FLAG_REPEATED_SIBLINGS: u32 = 16u;

@group(0) @binding(0) var<uniform> params: VerifyParams;
@group(0) @binding(1) var<storage, read> requests: array<Request>;

// Whether a row of the target's logits is in the part that is bound.
fn is_in_part(row: u32) -> bool {
    return row - params.first_row < params.part_rows; // wraps before the part
}
