// Copies pages of the pool, in all layers that share a buffer: a page that two sequences share gets a copy
// before one of them writes into it. Copies of one call have different targets, and no source is a
// target.

struct CopyParams {
    key_lanes: u32,   // [layer, kv_head, unit of a page] of the keys in this buffer
    value_lanes: u32,
    kv_heads: u32,
    key_page: u32,    // units of a page of one head
    value_page: u32,
    key_layer: u32,   // units from one layer to the next
    value_layer: u32,
    pages: u32,       // of the pool
    most: u32,        // copies that the list has room for
}

// The list: a count, then (source, target).
@group(0) @binding(0) var<uniform> params: CopyParams;
@group(0) @binding(1) var<storage, read> copies: array<u32>;
@group(0) @binding(2) var<storage, read_write> keys: array<Unit>; // [layer, kv_head, page, unit]
@group(0) @binding(3) var<storage, read_write> values: array<Unit>;

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(global_invocation_id) id: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
) {
    let lane = id.y * groups.x * WORKGROUP_X + id.x;
    if lane >= params.key_lanes + params.value_lanes {
        return;
    }
    let is_value = lane >= params.key_lanes;
    let own = select(lane, lane - params.key_lanes, is_value);
    let page_units = select(params.key_page, params.value_page, is_value);
    let layer_units = select(params.key_layer, params.value_layer, is_value);
    let layer = own / (params.kv_heads * page_units);
    let head = own / page_units % params.kv_heads;
    let first = layer * layer_units + head * params.pages * page_units + own % page_units;
    for (var i = 0u; i < min(copies[0], params.most); i++) {
        let source = copies[1u + 2u * i];
        let place = copies[2u + 2u * i];
        if source >= params.pages || place >= params.pages {
            continue;
        }
        if is_value {
            values[first + place * page_units] = values[first + source * page_units];
        } else {
            keys[first + place * page_units] = keys[first + source * page_units];
        }
    }
}
