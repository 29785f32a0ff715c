// The cut-off of a row where few tokens can be about it. The maxima of groups tell: as many groups as top-k keeps tokens
// have their maximum above some logit, so at least as many tokens lie there, and only groups with a maximum above it are
// looked into. Min-p gives such a logit by itself. For top-p it is a guess, and what lies above it may weigh too
// little; then, or where there are too many tokens, the search is left open. One workgroup a row of the wave.

// Groups that top-p looks into: the likeliest tokens of as many are most of what it keeps of rows of models.
const GUESS: u32 = 192u;

var<workgroup> counts: array<atomic<u32>, BINS>; // of groups, by the bin of their maximum
var<workgroup> number: atomic<u32>;              // candidates, also those that have no room
var<workgroup> listed: atomic<u32>;              // groups that are looked into
var<workgroup> likely: array<u32, MAX_CANDIDATES>;
var<workgroup> deepest: u32;                     // the last bin that is looked into
var<workgroup> complete: u32;

fn group_top(place: u32, group: u32) -> f32 {
    return bitcast<f32>(scratch_word(group_at(place, 0u, group)));
}

// The last bin of interest, where there is one: that of the least logit which min-p keeps.
fn end_bin(settings: Settings, whole: Row, scale: f32) -> u32 {
    if ends_at_bar(settings) {
        return bin_of(bar_of(settings, whole.max), whole.max, scale);
    }
    return BINS - 1u;
}

// The bin down to which tokens are candidates. One invocation does it.
fn find_bin(settings: Settings, end: u32) -> u32 {
    let wanted = select(GUESS, settings.top_k, by_count(settings));
    var bin = 0u;
    var above = atomicLoad(&counts[0]);
    while bin < end && above < wanted {
        bin++;
        above += atomicLoad(&counts[bin]);
    }
    return bin;
}

fn put(z: f32, y: u32, whole: Row, scale: f32) {
    if z > LOWEST && bin_of(z, whole.max, scale) <= deepest {
        let place = atomicAdd(&number, 1u);
        if place < MAX_CANDIDATES {
            candidates[place] = Candidate(key_of(z), y, integers(min(exponential(z, whole.max), 1.0)));
        }
    }
}

// Four tokens of a group, in order; what is left of the last four of a row comes by itself.
fn put_four(source: Source, settings: Settings, y: u32, whole: Row, scale: f32) {
    if y + 4u <= params.vocabulary {
        let z = row_z_four(source, settings, y);
        for (var i = 0u; i < 4u; i++) {
            put(z[i], y + i, whole, scale);
        }
    }
}

fn select_row(request: u32, node: u32, lane: u32) {
    let row = request * params.max_nodes + node;
    let place = row - params.first_row;
    let settings = row_settings(request);
    if !row_exists(request, node) || !has_cut(settings) {
        return;
    }
    let at = search_at(place);
    let whole = row_stat(row);
    let scale = bin_scale(settings, whole);
    let end = end_bin(settings, whole, scale);
    let groups = row_groups();
    let counting = by_count(settings) || settings.top_p < 1.0;
    for (var bin = lane; bin < BINS; bin += WORKGROUP_X) {
        atomicStore(&counts[bin], 0u);
    }
    if lane == 0u {
        atomicStore(&number, 0u);
        atomicStore(&listed, 0u);
        begin_sums();
    }
    workgroupBarrier(); // orders the zeros before what is counted
    if counting {
        for (var group = lane; group < groups; group += WORKGROUP_X) {
            let top = group_top(place, group);
            if top > LOWEST {
                atomicAdd(&counts[bin_of(top, whole.max, scale)], 1u);
            }
        }
        workgroupBarrier(); // orders the counts before the search
    }
    if lane == 0u {
        deepest = end;
        if counting {
            deepest = find_bin(settings, end);
        }
    }
    workgroupBarrier(); // orders the bin before it is read
    // First a list, and then its groups: a CPU goes through all of a loop's body, also where it finds nothing to do.
    for (var group = lane; group < groups; group += WORKGROUP_X) {
        let top = group_top(place, group);
        if top > LOWEST && bin_of(top, whole.max, scale) <= deepest {
            let at = atomicAdd(&listed, 1u);
            if at < MAX_CANDIDATES {
                likely[at] = group;
            }
        }
    }
    workgroupBarrier(); // orders the list before its groups are looked into
    let source = row_source(request, node);
    let fitting = atomicLoad(&listed) <= MAX_CANDIDATES; // each has a candidate
    let looked = select(0u, atomicLoad(&listed), fitting);
    for (var i = lane; i < looked; i += WORKGROUP_X) {
        let first = group_start(likely[i]);
        for (var four = 0u; four < 2u * GROUP_TURNS; four++) {
            put_four(source, settings, first + four * 4u * GROUP_LANES, whole, scale);
        }
    }
    for (var y = params.vocabulary / 4u * 4u + lane; y < params.vocabulary; y += WORKGROUP_X) {
        put(row_z(source, settings, y), y, whole, scale);
    }
    workgroupBarrier(); // orders the candidates before they are counted
    let count = min(atomicLoad(&number), MAX_CANDIDATES);
    let wanted = settings.top_p * whole.sum;
    // All that may be kept is there.
    let bounded = by_count(settings) || deepest == end;
    if !bounded {
        for (var i = lane; i < count; i += WORKGROUP_X) {
            atomicAdd(&mass[0], candidates[i].weight.x);
            atomicAdd(&mass[1], candidates[i].weight.y);
        }
    }
    end_candidates(count, lane);
    if lane == 0u {
        let above = float_of(vec2(atomicLoad(&mass[0]), atomicLoad(&mass[1])));
        let fits = fitting && count > 0u && atomicLoad(&number) <= MAX_CANDIDATES;
        complete = select(0u, 1u, fits && !wants_entropy(request) && (bounded || above > wanted));
        // Sums of top-k begin anew.
        atomicStore(&mass[0], 0u);
        atomicStore(&mass[1], 0u);
        set_scratch(at + SEARCH_STATE, select(STATE_OPEN, STATE_DONE, complete == 1u));
    }
    if workgroupUniformLoad(&complete) == 1u {
        let share = select(2.0 * f32(params.vocabulary), wanted, settings.top_p < 1.0);
        decide(row, settings, count, 0.0, share, lane);
    }
}

@compute @workgroup_size(WORKGROUP_X, WORKGROUP_Y, WORKGROUP_Z)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var place = group.x; place < rows_of_wave(group.z); place += groups.x) {
        let node = node_of_wave(group.z, place);
        if is_bound(group.z, node) {
            select_row(group.z, node, lane);
        }
        workgroupBarrier(); // orders what is read of this row before the next
    }
}
