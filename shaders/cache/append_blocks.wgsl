// Rotary position embedding, the rotation of keys by a Hadamard transform, and the write of keys and
// values into a cache of which at least one is quantised, fused. One workgroup a head of a row of a
// sequence: query heads, then key heads, then value heads.
//
// A head passes through workgroup memory, since the transform and the scales need all of its elements.

@group(0) @binding(5) var<storage, read_write> key: array<u32>; // [kv_head, slot, word]
@group(0) @binding(6) var<storage, read_write> value: array<u32>;

const MAX_DIM: u32 = 256u;
const HADAMARD_SCALE: f32 = inverseSqrt(f32(HADAMARD));
var<workgroup> head: array<f32, MAX_DIM>;

// The largest magnitude of a block, with its sign.
fn extreme(block: u32, dim: u32) -> f32 {
    var most = 0.0;
    for (var i = block * QUANT_BLOCK; i < min(dim, (block + 1u) * QUANT_BLOCK); i++) {
        most = select(most, head[i], abs(head[i]) > abs(most));
    }
    return most;
}

// The scale of a block, as 16 bits.
fn scale_bits(element: u32, block: u32, dim: u32) -> u32 {
    let most = extreme(block, dim);
    let scale = select(abs(most) / 127.0, most / -8.0, element == Q4);
    return pack2x16float(vec2(clamp(scale, -65504.0, 65504.0), 0.0)) & 0xffffu;
}

// The integer of an element of a block, in steps of the scale.
fn steps(i: u32, scale: f32, least: f32, most: f32) -> f32 {
    return clamp(round(select(head[i] / scale, 0.0, scale == 0.0)), least, most);
}

fn element_or_zero(i: u32, dim: u32) -> f32 {
    return select(0.0, head[min(i, MAX_DIM - 1u)], i < dim);
}

// Word `word` of a stored row of `dim` elements.
fn stored_word(element: u32, word: u32, dim: u32) -> u32 {
    if element == F32 {
        return bitcast<u32>(head[word]);
    }
    if element == F16 || element == BF16 {
        let pair = vec2(head[2u * word], head[2u * word + 1u]);
        if element == F16 {
            return pack2x16float(clamp(pair, vec2(-65504.0), vec2(65504.0)));
        }
        let bits = bitcast<vec2<u32>>(clamp(pair, vec2(-3.3895314e38), vec2(3.3895314e38)));
        let rounded = bits + vec2(0x7fffu) + ((bits >> vec2(16u)) & vec2(1u));
        return (rounded.x >> 16u) | (rounded.y & 0xffff0000u);
    }
    let per_word = select(4u, 8u, element == Q4);
    let bits = 32u / per_word;
    let integers = (dim + per_word - 1u) / per_word;
    if word >= integers {
        let block = 2u * (word - integers);
        let low = scale_bits(element, block, dim);
        // Past the last block there is nothing, and its scale is 0.
        return low | (scale_bits(element, block + 1u, dim) << 16u);
    }
    let scale = unpack2x16float(scale_bits(element, word * per_word / QUANT_BLOCK, dim)).x;
    var packed = 0u;
    for (var n = 0u; n < per_word; n++) {
        let i = word * per_word + n;
        if i < dim {
            let value = select(
                u32(i32(steps(i, scale, -127.0, 127.0))) & 0xffu,
                u32(i32(steps(i, scale, -8.0, 7.0)) + 8),
                element == Q4,
            );
            packed |= value << (n * bits);
        }
    }
    return packed;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = group.z;
    // An idle workgroup stores nothing; it does not return, for barriers follow.
    let live = group.y < sequences[sequence].rows && has_row(sequence, group.y);
    let row = row_of(sequence, min(group.y, max(sequences[sequence].rows, 1u) - 1u));
    let is_query = group.x < params.query_heads;
    let is_value = group.x >= params.query_heads + params.kv_heads;
    let dim = select(params.head_dim, params.value_dim, is_value);
    var origin = row.x + group.x * params.head_dim;
    if is_value {
        let own = group.x - params.query_heads - params.kv_heads;
        origin = row.x + params.value_start + own * params.value_dim;
    } else if !is_query {
        origin = row.x + params.key_start + (group.x - params.query_heads) * params.head_dim;
    }
    // The rows of an idle sequence may begin where those of the last one end: nothing is read there.
    for (var i = lane; i < dim && live; i += WORKGROUP_X) {
        if is_value {
            head[i] = x[origin + i];
        } else {
            head[i] = rotated_element(origin, row.position, i);
        }
    }
    // Orders the head before its reads, and the reads of a query before it is overwritten.
    workgroupBarrier();
    storageBarrier();

    for (var half = 1u; half < HADAMARD; half *= 2u) {
        // Each invocation owns the pairs that it reads and writes.
        for (var pair = lane; pair < dim / 2u && !is_value; pair += WORKGROUP_X) {
            let low = pair / half * half * 2u + pair % half;
            let a = head[low];
            let b = head[low + half];
            head[low] = a + b;
            head[low + half] = a - b;
        }
        workgroupBarrier(); // orders this step's sums before the next step's reads
    }
    for (var i = lane; i < dim && !is_value; i += WORKGROUP_X) {
        head[i] = head[i] * HADAMARD_SCALE;
    }
    workgroupBarrier(); // orders the scaled head before its reads
    if !live {
        return;
    }
    if is_query {
        for (var i = lane; i < dim; i += WORKGROUP_X) {
            x[origin + i] = head[i];
        }
    } else if row.slot != NO_SLOT && is_value {
        let own = group.x - params.query_heads - params.kv_heads;
        for (var word = lane; word < params.value_row; word += WORKGROUP_X) {
            value[(own * params.slots + row.slot) * params.value_row + word] =
                stored_word(VALUE_ELEMENT, word, dim);
        }
    } else if row.slot != NO_SLOT {
        let own = group.x - params.query_heads;
        for (var word = lane; word < params.key_row; word += WORKGROUP_X) {
            key[(own * params.slots + row.slot) * params.key_row + word] =
                stored_word(KEY_ELEMENT, word, dim);
        }
    }
}
