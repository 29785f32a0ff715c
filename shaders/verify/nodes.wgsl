// What is known of each node of a tree.

// A distribution over a row: y has exp(z - max) / sum, where z's key is above the cut, or equals it and
// y is at most `last`.
struct Row {
    max: f32,
    sum: f32,
    cut: u32,
    last: u32,
}

struct NodeState {
    after: Row,     // the target's distribution after the node
    drafted: Row,   // that from which its children were drawn
    argmax: u32,
    entropy: f32,   // of `after`, nats
    bound: f32,     // the node is accepted iff u * scale < bound; a scale below 0: it can't be drawn
    scale: f32,
    log_p: f32,     // log-probability of the node's token after its parent
    alpha: f32,     // what is left when all children are rejected: max(alpha p - s q, 0)
    s: f32,
    mass: f32,      // of what is left when the children that were looked at are rejected
    rest: f32,      // of q on tokens that may still be drawn then
    kept: f32,      // block and traversal: how likely the path to here is kept, at most 1
    weight: f32,    // traversal: what is left of the node's token after its parent, once removed
    // Of the request, in node 0:
    last: u32,      // the last accepted node
    end: u32,       // the walk has what it needs of nodes before this one
    over: u32,      // 1: the walk is over
    accepted: u32,  // accepted nodes below the root
    tested: u32,    // block and traversal: the child whose turn it is to be tested
    word: u32,      // the random word with which the token after it is sampled
}

@group(0) @binding(3) var<storage, read_write> nodes: array<NodeState>; // [request, node]

// In nats, from the sums of exp(z - max) and of exp(z - max) (max - z).
fn entropy_of(sum: f32, slope: f32) -> f32 {
    return slope / max(sum, 1.0) + log(max(sum, 1.0));
}
