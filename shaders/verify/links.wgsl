// Whether a blob is a tree, node by node. One workgroup a request. Twin: tree::DraftTree::from_blob.

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

// Before the nodes are looked at.
fn begin_links(count: u32, lane: u32) {
    for (var word = lane; word < 128u; word += WORKGROUP_X) {
        atomicStore(&linked[word], 0u);
    }
    if lane == 0u {
        atomicStore(&found, select(0u, FLAG_BAD_TREE, count == 0u));
    }
    workgroupBarrier(); // orders the zeros before what is found
}

// What is wrong with a node by itself.
fn flags_of(request: u32, node: u32, count: u32) -> u32 {
    var flags = 0u;
    if !parent_is_before(request, node) || !is_right(request, node, count) || !ancestors_are_right(request, node) {
        flags |= FLAG_BAD_TREE;
    }
    if node > 0u && token_of(request, node) >= params.vocabulary {
        flags |= FLAG_TOKEN_OUTSIDE;
    }
    return flags;
}

// All flags, once every node was looked at.
fn end_links(count: u32, lane: u32) -> u32 {
    workgroupBarrier(); // orders every link before it is looked for
    for (var node = 1u + lane; node < count; node += WORKGROUP_X) {
        if (atomicLoad(&linked[node / 32u]) & (1u << (node % 32u))) == 0u {
            atomicOr(&found, FLAG_BAD_TREE);
        }
    }
    workgroupBarrier(); // orders all flags before they are read
    return atomicLoad(&found);
}
