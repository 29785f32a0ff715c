// The fields of a blob that follow from tokens and parents, for a tree whose parents never fall from a
// node to the next, so that siblings are neighbours. One workgroup a tree. Twin: tree::DraftTree::from_parents.

var<workgroup> parents: array<u32, MAX_NODES>;
var<workgroup> sizes: array<atomic<u32>, MAX_NODES>; // nodes of the subtree
var<workgroup> steps: array<u32, MAX_NODES>; // preorder numbers from the parent to the node

// Needs every node's token in the blob and its parent in `parents` (0 for the root), without a barrier since.
// `base` is the blob's first word, `stride` the nodes it has room for.
fn link(base: u32, stride: u32, count: u32, lane: u32) {
    let words = (stride + 31u) / 32u;
    for (var node = lane; node < stride; node += WORKGROUP_X) {
        tree[base + 2u * stride + node] = NONE;
        if node < count {
            atomicStore(&sizes[node], 0u);
        }
    }
    storageBarrier();   // orders the empty lists of children before what is put in
    workgroupBarrier(); // orders parents and zeros before the walks
    for (var node = lane; node < count; node += WORKGROUP_X) {
        var at = node;
        atomicAdd(&sizes[at], 1u);
        // A parent comes before its child, so the walk ends at the root.
        while at != 0u {
            at = parents[at];
            atomicAdd(&sizes[at], 1u);
        }
    }
    workgroupBarrier(); // orders the sizes before their reads
    for (var node = lane; node < count; node += WORKGROUP_X) {
        var step = 1u;
        var sibling = node;
        while sibling > 1u && parents[sibling - 1u] == parents[node] {
            sibling--;
            step += atomicLoad(&sizes[sibling]);
        }
        steps[node] = select(step, 0u, node == 0u);
        if node > 0u && sibling == node {
            tree[base + 2u * stride + parents[node]] = node; // the first child
        }
    }
    workgroupBarrier(); // orders the steps before the sums over paths
    for (var node = lane; node < stride; node += WORKGROUP_X) {
        let row = base + 8u * stride + node * words;
        if node >= count {
            for (var field = 0u; field < 8u; field++) {
                tree[base + field * stride + node] = NONE;
            }
            for (var word = 0u; word < words; word++) {
                tree[row + word] = 0u;
            }
            continue;
        }
        var depth = 0u;
        var entered = 0u;
        var at = node;
        var word = words; // words from here on are written
        var bits = 0u;
        loop {
            // Ancestors descend, so each word is complete when the walk leaves it.
            while word > at / 32u + 1u {
                word--;
                tree[row + word] = bits;
                bits = 0u;
            }
            bits |= 1u << (at % 32u);
            if at == 0u {
                break;
            }
            entered += steps[at];
            depth++;
            at = parents[at];
        }
        tree[row] = bits;
        var families = 0u; // nodes up to this one that are first children
        for (var i = 1u; i <= node; i++) {
            families += u32(i == 1u || parents[i - 1u] != parents[i]);
        }
        let has_next = node > 0u && node + 1u < count && parents[min(node + 1u, MAX_NODES - 1u)] == parents[node];
        tree[base + stride + node] = select(parents[node], NONE, node == 0u);
        tree[base + 3u * stride + node] = select(NONE, node + 1u, has_next);
        tree[base + 4u * stride + node] = depth;
        tree[base + 5u * stride + node] = entered;
        tree[base + 6u * stride + node] = entered + atomicLoad(&sizes[node]);
        tree[base + 7u * stride + node] = select(families - 1u, NONE, node == 0u);
    }
}
