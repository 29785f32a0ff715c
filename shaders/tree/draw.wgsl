// The k best tokens of each block of the vocabulary, of each draw of each node of the newest level. One workgroup a
// (block, node and draw, request). Twin: reference::tree::drawn.

@group(0) @binding(1) var<storage, read> requests: array<DrawRequest>;
@group(0) @binding(2) var<storage, read> logits: array<f32>; // [request, node, vocabulary]
@group(0) @binding(3) var<storage, read> lengths: array<vec4<u32>>; // [request]: (rows, past, -, -)
@group(0) @binding(4) var<storage, read> levels: array<vec2<u32>>; // [request]: first node of the newest level, its end
@group(0) @binding(5) var<storage, read> cuts: array<Ranked>; // [request, node of the level, rank]: the likeliest
@group(0) @binding(6) var<storage, read_write> blocks: array<Ranked>; // [request, node and draw, block, k]

const LOWEST: f32 = -3.4028234e38;
const HIGHEST: f32 = 3.4028234e38;
const PURPOSE_OF_DRAFTS: u32 = 0u;

// A node, and what its tokens are compared by.
struct Draw {
    start: u32, // of its logits
    temperature: f32,
    cut: Ranked, // the last token that stays
    seed: vec2<u32>,
    counter: vec4<u32>, // of its random numbers, those of the first four tokens
}

var<workgroup> draw_node: u32; // NONE: the level is not so wide

fn level_of(request: u32) -> vec2<u32> {
    return select(levels[request], vec2(0u, 1u), params.depth == 1u);
}

fn draw_of(request: u32, node: u32, row: u32, child: u32) -> Draw {
    let own = requests[request];
    var cut = Ranked(0u, NONE);
    if params.noisy == 1u && own.top_k > 0u && own.top_k <= params.cut {
        // Fewer numbers than top_k: the list ends with NO_KEY, and all stay.
        cut = cuts[(request * params.rows + row) * params.cut + own.top_k - 1u];
    }
    let position = lengths[request].y + params.depth;
    // Cousins draw at the same position, and the next step may draw there again.
    let block = (params.depth << 25u) | (node << 16u);
    return Draw(
        (request * params.logit_rows + node) * params.row_stride, own.temperature, cut, own.seed,
        vec4(position, child, PURPOSE_OF_DRAFTS, block));
}

// -log(-log(1 - u)) for a u that is the middle of one of 2^32 parts of the unit interval. Where u is small, the
// number is large, and both logarithms keep all their digits.
fn gumbel(word: u32) -> f32 {
    let u = (f32(word) + 0.5) * 2.3283064e-10;
    let rest = (f32(~word) + 0.5) * 2.3283064e-10;
    let series = u * fma(u, fma(u, 0.33333334, 0.5), 1.0);
    return -log(select(-log(rest), series, u < 0.01));
}

// What four tokens are compared by, from `first` on.
fn keys_of(draw: Draw, first: u32) -> vec4<u32> {
    var numbers = vec4(0u);
    if params.noisy == 1u {
        numbers = philox4x32_10(draw.counter + vec4(0u, 0u, 0u, first / 4u), draw.seed);
    }
    var keys = vec4(NO_KEY);
    for (var i = 0u; i < 4u; i++) {
        let token = first + i;
        if token < params.vocabulary {
            let bits = bitcast<u32>(logits[draw.start + token]);
            let logit = finite_number(key_of(bits));
            let z = clamp(logit / draw.temperature, LOWEST, HIGHEST);
            let key = key_of(bitcast<u32>(z));
            let stays = key > draw.cut.key || (key == draw.cut.key && token <= draw.cut.index);
            if key_of(bits) != NO_KEY && z > LOWEST && stays {
                keys[i] = select(key, key_of(bitcast<u32>(z + gumbel(numbers[i]))), params.noisy == 1u);
            }
        }
    }
    return keys;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.z;
    let row = group.y / params.draws;
    if lane == 0u {
        let level = level_of(request);
        draw_node = select(NONE, level.x + row, level.x + row < level.y);
    }
    let node = workgroupUniformLoad(&draw_node);
    if node == NONE {
        return;
    }
    let draw = draw_of(request, node, row, group.y % params.draws);
    let begin = group.x * BLOCK;
    let end = min(begin + BLOCK, params.vocabulary);
    var own = nothing(lane);
    for (var first = begin + 4u * lane; first < end; first += 4u * WORKGROUP_X) {
        let keys = keys_of(draw, first);
        for (var i = 0u; i < 4u; i++) {
            // Tokens ascend, so an equal one loses.
            if keys[i] > own.key {
                own = Ranked(keys[i], first + i);
            }
        }
    }
    find_bound(own, params.k, lane);
    for (var first = begin + 4u * lane; first < end; first += 4u * WORKGROUP_X) {
        let keys = keys_of(draw, first);
        for (var i = 0u; i < 4u; i++) {
            list(Ranked(keys[i], first + i));
        }
    }
    workgroupBarrier(); // orders the list before its reads
    let count = min(atomicLoad(&listed_count), LIST);
    let out = (list_of(request, group.y) * params.blocks + group.x) * params.k;
    for (var i = lane; i < count; i += WORKGROUP_X) {
        let rank = rank_of(listed[i], count);
        if rank < params.k {
            blocks[out + rank] = listed[i];
        }
    }
    for (var i = count + lane; i < params.k; i += WORKGROUP_X) {
        blocks[out + i] = Ranked(NO_KEY, NONE);
    }
}
