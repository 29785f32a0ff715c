// Greedy verification of a draft tree: from the root, descend to the child whose token is the
// target's argmax while there is one; the argmax where the walk ends is the bonus token. The
// output equals plain decoding. One workgroup, one request.
//
// Outcome: [0] accepted nodes below the root, [1] error flags, [2..2+N) path (node ids, the root
// first), [2+N..2+2N) tokens: those of the accepted nodes, then the bonus token. The rest is zero.

struct GreedyParams {
    max_nodes: u32,  // N: stride of the tree's and the outcome's arrays
    blocks: u32,     // argmax candidates of a node
    vocabulary: u32,
    candidate_rows: u32, // rows that have candidates: 1 after a prompt, all nodes otherwise
}

struct Step {
    rows: u32,
    past: u32,
}

struct Candidate {
    value: f32,
    token: u32,
}

@group(0) @binding(0) var<uniform> params: GreedyParams;
@group(0) @binding(1) var<storage, read> step: Step;
@group(0) @binding(2) var<storage, read> tree: array<u32>; // blob of tree::DraftTree
@group(0) @binding(3) var<storage, read> candidates: array<Candidate>; // [row, block]
@group(0) @binding(4) var<storage, read_write> outcome: array<u32>;

var<workgroup> best: array<u32, MAX_NODES>; // argmax token of each node

const NONE: u32 = 0xffffffffu;
const FLAG_NO_ARGMAX: u32 = 1u;  // every logit of a node on the path is NaN
const FLAG_BAD_TREE: u32 = 2u;   // a child is not after its parent, or past the last node

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(@builtin(local_invocation_index) lane: u32) {
    let nodes = min(min(step.rows, params.candidate_rows), params.max_nodes);
    for (var node = lane; node < nodes; node += WORKGROUP_X) {
        var own = candidates[node * params.blocks];
        for (var block = 1u; block < params.blocks; block++) {
            // Blocks ascend, so an equal value in a later block has a higher id and loses.
            let other = candidates[node * params.blocks + block];
            if own.token == NONE || other.value > own.value {
                own = other;
            }
        }
        best[node] = own.token;
    }
    for (var i = lane; i < 2u + 2u * params.max_nodes; i += WORKGROUP_X) {
        outcome[i] = 0u;
    }
    storageBarrier();   // orders the zeros before the walk's writes
    workgroupBarrier(); // orders every node's argmax before the walk
    if lane != 0u || nodes == 0u {
        return;
    }
    let n = params.max_nodes;
    var flags = 0u;
    var accepted = 0u;
    var current = 0u;
    // A node comes after its parent, so a walk that only ever goes up ends within `nodes` steps.
    for (var i = 0u; i < nodes; i++) {
        let wanted = best[current];
        outcome[2u + n + accepted] = wanted;
        if wanted >= params.vocabulary {
            flags |= FLAG_NO_ARGMAX;
            break;
        }
        var child = tree[2u * n + current];
        var previous = current;
        // Siblings ascend as well; the first with the wanted token is taken.
        while child < nodes && child > previous && tree[child] != wanted {
            previous = child;
            child = tree[3u * n + child];
        }
        if child == NONE {
            break;
        }
        if child >= nodes {
            // After a prompt the rows of the tree are not candidates: no node below the root.
            break;
        }
        if child <= previous {
            flags |= FLAG_BAD_TREE;
            break;
        }
        accepted++;
        current = child;
        outcome[2u + accepted] = child;
    }
    outcome[0] = accepted;
    outcome[1] = flags;
}
