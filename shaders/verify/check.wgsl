// Whether each blob is a tree, on the walked path and off it: what DraftTree::from_blob refuses on the CPU is a
// flag here. One workgroup a request, after the walk, which never leaves a damaged blob's bounds but sees only a part
// of it. Twin: tree::DraftTree::from_blob.

@group(0) @binding(3) var<storage, read_write> outcome: array<u32>; // as in verify/walk.wgsl

var<workgroup> linked: array<atomic<u32>, 128>; // a bit a node: something names it its first child or next sibling
var<workgroup> found: atomic<u32>; // flags

fn parent_is_before(request: u32, node: u32) -> bool {
    let parent = parent_of(request, node);
    return select(parent < node, parent == NONE, node == 0u);
}

fn ancestors_of(request: u32, node: u32, word: u32) -> u32 {
    let words = (params.tree_stride + 31u) / 32u;
    return tree[request * params.tree_words + 8u * params.tree_stride + node * words + word];
}

// Whether the node's ancestors are those of its parent and itself. Its parent comes before it.
fn ancestors_are_right(request: u32, node: u32) -> bool {
    var right = true;
    for (var word = 0u; word < (params.tree_stride + 31u) / 32u; word++) {
        var wanted = select(0u, 1u << (node % 32u), node / 32u == word);
        if node > 0u {
            wanted |= ancestors_of(request, parent_of(request, node), word);
        }
        right = right && ancestors_of(request, node, word) == wanted;
    }
    return right;
}

// Whether this is the first to name `node`.
fn links(node: u32) -> bool {
    let bit = 1u << (node % 32u);
    return (atomicOr(&linked[node / 32u], bit) & bit) == 0u;
}

// Whether the fields of a node and its links agree with its parent's and with those it leads to.
fn is_right(request: u32, node: u32, count: u32) -> bool {
    let parent = parent_of(request, node);
    let entered = tree_field(request, 5u, node);
    let left = tree_field(request, 6u, node);
    let row = tree_field(request, 7u, node);
    var right = true;
    if node == 0u {
        right = tree_field(request, 4u, 0u) == 0u && entered == 0u && row == NONE;
    } else {
        right = tree_field(request, 4u, node) == tree_field(request, 4u, parent) + 1u && row != NONE;
    }
    let child = first_child(request, node);
    if child == NONE {
        right = right && left == entered + 1u;
    } else if is_child(child, node, count) && parent_of(request, child) == node {
        right = right && links(child) && tree_field(request, 5u, child) == entered + 1u;
    } else {
        return false;
    }
    let sibling = next_sibling(request, node);
    if sibling == NONE {
        return right && (node == 0u || left == tree_field(request, 6u, parent));
    }
    // Siblings ascend, and share the row from which they were drawn.
    return right && node > 0u && is_child(sibling, node, count) && parent_of(request, sibling) == parent
        && links(sibling) && tree_field(request, 5u, sibling) == left && tree_field(request, 7u, sibling) == row;
}

// Whether a later sibling has the token of `node`.
fn is_repeated(request: u32, node: u32, count: u32) -> bool {
    let token = token_of(request, node);
    var before = node;
    var sibling = next_sibling(request, node);
    while is_child(sibling, before, count) {
        if token_of(request, sibling) == token {
            return true;
        }
        before = sibling;
        sibling = next_sibling(request, sibling);
    }
    return false;
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let count = node_count(request);
    for (var word = lane; word < 128u; word += WORKGROUP_X) {
        atomicStore(&linked[word], 0u);
    }
    if lane == 0u {
        atomicStore(&found, select(0u, FLAG_BAD_TREE, count == 0u));
    }
    workgroupBarrier(); // orders the zeros before what is found
    let distinct = requests[request].draw != DRAW_IID;
    let rule = requests[request].rule;
    let rejects = rule == RULE_REJECTION || rule == RULE_CHAIN || rule == RULE_BLOCK || rule == RULE_TRAVERSAL;
    let asks_draft = rejects && requests[request].draw != DRAW_TOP_K;
    for (var node = lane; node < count; node += WORKGROUP_X) {
        var flags = 0u;
        if !parent_is_before(request, node) || !is_right(request, node, count) || !ancestors_are_right(request, node) {
            flags |= FLAG_BAD_TREE;
        }
        if node > 0u && asks_draft && tree_field(request, 7u, node) >= params.draft_rows {
            flags |= FLAG_IMPOSSIBLE_DRAFT;
        }
        if node > 0u && token_of(request, node) >= params.vocabulary {
            flags |= FLAG_TOKEN_OUTSIDE;
        }
        if distinct && node > 0u && is_repeated(request, node, count) {
            flags |= FLAG_REPEATED_SIBLINGS;
        }
        if flags != 0u {
            atomicOr(&found, flags);
        }
    }
    workgroupBarrier(); // orders every link before it is looked for
    for (var node = 1u + lane; node < count; node += WORKGROUP_X) {
        if (atomicLoad(&linked[node / 32u]) & (1u << (node % 32u))) == 0u {
            atomicOr(&found, FLAG_BAD_TREE);
        }
    }
    workgroupBarrier(); // orders all flags before they are written
    if lane == 0u {
        outcome[request * params.outcome_words + 1u] |= atomicLoad(&found);
    }
}
