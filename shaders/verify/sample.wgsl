// The token after the last accepted node: the argmax, or one sampled from what is left of the target's
// distribution; and the log-probabilities. One workgroup a request; it works on what has its rows in the
// bound part. Twin: VerifyInput::finish.

@group(0) @binding(7) var<storage, read_write> outcome: array<u32>; // as in verify/walk.wgsl

// Where the number of a draw falls among weights in order.
struct Choice {
    index: u32,  // NONE: no weight is above 0
    wanted: f32, // what is to be passed within it
}

var<workgroup> block_sums: array<vec2<f32>, MAX_BLOCKS>; // what is left, and the distribution itself
var<workgroup> run_sums: array<f32, WORKGROUP_X>;
var<workgroup> walked: vec2<u32>; // the last node, accepted nodes
var<workgroup> block: Choice;
var<workgroup> run: Choice;
var<workgroup> lost: u32;
var<workgroup> bonus: u32;

// The first index where the weights before and with it are more than `wanted`; the last with a weight where
// rounding lets none pass.
fn chosen(choice: Choice, index: u32, weight: f32, passed: f32, wanted: f32) -> Choice {
    if weight > 0.0 && (choice.index == NONE || passed <= wanted) {
        return Choice(index, wanted - passed);
    }
    return choice;
}

fn choose_block(word: u32) {
    var totals = vec2(0.0);
    for (var i = 0u; i < params.blocks; i++) {
        totals += block_sums[i];
    }
    // A residual lost to rounding gives way to the target's own distribution.
    let all = totals.x <= 0.0;
    let wanted = uniform_number(word) * select(totals.x, totals.y, all);
    var choice = Choice(NONE, 0.0);
    var passed = 0.0;
    for (var i = 0u; i < params.blocks; i++) {
        let weight = select(block_sums[i].x, block_sums[i].y, all);
        choice = chosen(choice, i, weight, passed, wanted);
        passed += weight;
    }
    block = choice;
    lost = select(0u, 1u, all);
}

fn choose_run(wanted: f32) {
    var choice = Choice(NONE, 0.0);
    var passed = 0.0;
    for (var i = 0u; i < WORKGROUP_X; i++) {
        choice = chosen(choice, i, run_sums[i], passed, wanted);
        passed += run_sums[i];
    }
    run = choice;
}

// Log-probability of a token by the logits as they are.
fn raw_log(row: u32, logit: f32) -> f32 {
    var all = NO_STAT;
    for (var i = 0u; i < params.blocks; i++) {
        let at = stat_at(row - params.first_row, 0u, i);
        all = joined(all, Stat(bitcast<f32>(scratch_word(at + 3u)), 0u, bitcast<f32>(scratch_word(at + 4u))));
    }
    return select(logit - all.top - log(all.sum), LOWEST, logit <= LOWEST);
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let request = group.x;
    let base = request * params.max_nodes;
    if lane == 0u {
        walked = vec2(nodes[base].last, nodes[base].accepted);
        bonus = NONE;
    }
    let walk = workgroupUniformLoad(&walked);
    let node = walk.x;
    let row = base + node;
    let inside = is_bound(request, min(node, params.max_nodes - 1u)) && walk.y < params.max_nodes;
    let rule = requests[request].rule;
    if inside && rule == RULE_GREEDY {
        if lane == 0u {
            bonus = nodes[row].argmax;
        }
    } else if inside {
        for (var i = lane; i < params.blocks; i += WORKGROUP_X) {
            let at = stat_at(row - params.first_row, 0u, i);
            block_sums[i] = vec2(bitcast<f32>(scratch_word(at + 5u)), bitcast<f32>(scratch_word(at + 6u)));
        }
        workgroupBarrier(); // orders the blocks' sums before the choice
        if lane == 0u {
            choose_block(nodes[base].word);
        }
        let in_block = workgroupUniformLoad(&block);
        let all = workgroupUniformLoad(&lost) == 1u;
        let left = left_of(request, node);
        // Each invocation sums a run of tokens, so that runs in the order of invocations are the block.
        let begin = select(in_block.index * BLOCK, params.vocabulary, in_block.index == NONE);
        let first = min(begin + lane * (BLOCK / WORKGROUP_X), params.vocabulary);
        let end = min(first + BLOCK / WORKGROUP_X, params.vocabulary);
        if removes(request, node) {
            mark_removed(request, node, node_count(request), begin, lane);
        }
        var sum = 0.0;
        for (var y = first; y < end; y++) {
            let weights = residual(left, request, node, y - begin, y);
            sum += select(weights.x, weights.y, all);
        }
        run_sums[lane] = sum;
        workgroupBarrier(); // orders the runs' sums before the choice
        if lane == 0u {
            choose_run(in_block.wanted);
        }
        let in_run = workgroupUniformLoad(&run);
        if lane == in_run.index {
            var choice = Choice(NONE, 0.0);
            var passed = 0.0;
            for (var y = first; y < end; y++) {
                let weights = residual(left, request, node, y - begin, y);
                let weight = select(weights.x, weights.y, all);
                choice = chosen(choice, y, weight, passed, in_run.wanted);
                passed += weight;
            }
            bonus = choice.index;
        }
    }
    workgroupBarrier(); // orders the token before all read it
    // The log-probabilities of the accepted tokens, and of the one after them.
    let n = params.max_nodes;
    let start = request * params.outcome_words + 2u;
    for (var i = lane; i <= min(walk.y, n - 1u); i += WORKGROUP_X) {
        let above = base + min(outcome[start + i], n - 1u);
        if is_bound(request, above - base) {
            let is_bonus = i == walk.y;
            let token = select(outcome[start + n + i], bonus, is_bonus);
            let source = target_source(request, above - base);
            if token < params.vocabulary {
                outcome[start + 2u * n + i] = bitcast<u32>(raw_log(above, raw_logit(source, token)));
            }
            if is_bonus {
                outcome[start + n + i] = bonus;
                if token < params.vocabulary {
                    let z = target_z(source, requests[request].sampling, token);
                    let p = probability(nodes[above].after, z, token);
                    outcome[start + 3u * n + i] = bitcast<u32>(select(LOWEST, log(p), p > 0.0));
                }
            }
        }
    }
}
