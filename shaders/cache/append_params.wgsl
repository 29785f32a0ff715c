// The parameters of the append, and rotary position embedding (Su et al. 2021).

struct AppendParams {
    query_heads: u32,   // rotated by this dispatch
    kv_heads: u32,      // stored by it
    head_dim: u32,
    value_dim: u32,
    rotated_pairs: u32, // pairs of a head that are rotated; the rest pass through
    key_start: u32,     // f32s from a row's first to the first key that is stored
    value_start: u32,
    x_stride: u32,      // f32s from one row to the next
    row_stride: u32,    // rows from one sequence to the next; 0 where they follow each other
    depth_stride: u32,  // depths from one sequence to the next
    positions: u32,     // rows of the rotation table
    slots: u32,         // of one head
    capacity: u32,      // tokens of a sequence
    page_shift: u32,    // log2 of a page's tokens
    table_stride: u32,  // entries of a sequence in the page table
    key_row: u32,       // of one slot, in what the kernel stores at a time
    value_row: u32,
}

@group(0) @binding(0) var<uniform> params: AppendParams;
@group(0) @binding(2) var<storage, read> depth: array<u32>; // [sequence, row]
@group(0) @binding(3) var<storage, read> turns: array<vec2<f32>>; // [position, pair]: cos, sin
// [row, head, dim]: query heads, then key heads, then value heads. Queries are rotated in place.
@group(0) @binding(4) var<storage, read_write> x: array<f32>;

// A row of the step: where its numbers start, its position and its slot.
struct Row {
    x: u32,
    position: u32,
    slot: u32,
}

// Whether a row of the step lies in `x`: sequences of a ragged batch say themselves where they start.
fn has_row(sequence: u32, row: u32) -> bool {
    let at = sequence * params.row_stride + sequences[sequence].first_row + row;
    return at < arrayLength(&x) / params.x_stride;
}

fn row_of(sequence: u32, row: u32) -> Row {
    let own = sequences[sequence];
    let last = max(arrayLength(&x) / params.x_stride, 1u) - 1u;
    let at = min(sequence * params.row_stride + own.first_row + row, last);
    let place = own.past + depth[sequence * params.depth_stride + row] + position_base(sequence);
    return Row(
        at * params.x_stride,
        min(place, params.positions - 1u),
        slot_of(sequence, own.past + row),
    );
}

// Rotated pair `pair` of the head that starts at `head`.
fn rotated_pair(head: u32, position: u32, pair: u32) -> vec2<f32> {
    let at = elements_of(pair);
    let turn = turns[position * params.rotated_pairs + pair];
    let a = x[head + at.x];
    let b = x[head + at.y];
    return vec2(a * turn.x - b * turn.y, a * turn.y + b * turn.x);
}

// Element `i` of a head after the rotation.
fn rotated_element(head: u32, position: u32, i: u32) -> f32 {
    if i >= 2u * params.rotated_pairs {
        return x[head + i];
    }
    let pair = pair_of(i);
    let rotated = rotated_pair(head, position, pair);
    return select(rotated.x, rotated.y, i == elements_of(pair).y);
}
