// How the cut-off of a row is searched for where verify/select.wgsl did not find it. Tokens are put into bins by how far their logit is below the
// maximum. The bin is found in which the cut-off lies; its tokens, the candidates, are compared with each
// other. Where there are too many, verify/cut.wgsl finds the cut-off by itself.

const SEARCH_WORDS: u32 = 6u;
const SEARCH_STATE: u32 = 0u;
const SEARCH_BIN: u32 = 1u;
const SEARCH_BEFORE: u32 = 2u; // f32: weight of all bins before
const SEARCH_WANTED: u32 = 3u; // f32: weight that is to be reached
const SEARCH_COUNT: u32 = 4u;  // candidates, also those that have no room

const STATE_OPEN: u32 = 0u;   // for verify/cut.wgsl
const STATE_PICKED: u32 = 1u; // the bin is known
const STATE_DONE: u32 = 2u;

fn search_at(row: u32) -> u32 {
    return params.searches_at + SEARCH_WORDS * (row * params.kinds + ROW_KIND);
}

fn list_at(row: u32) -> u32 {
    return params.lists_at + 2u * params.candidates * (row * params.kinds + ROW_KIND);
}

fn bins_at(row: u32, block: u32) -> u32 {
    return params.bins_at + BINS * ((row * params.kinds + ROW_KIND) * params.blocks + block);
}

// Whether bins are made of a row that was left open: by top-p, where top-k does not say how many tokens there are.
fn cuts_by_mass(settings: Settings) -> bool {
    return settings.top_p < 1.0 && !by_count(settings);
}

fn row_stat(at: u32) -> Row {
    if ROW_KIND == 1u {
        return nodes[at].drafted;
    }
    return nodes[at].after;
}

// Whether the entropy of the row is asked for. Only verify/cut.wgsl sums it.
fn wants_entropy(request: u32) -> bool {
    return ROW_KIND == 0u && requests[request].rule == RULE_TYPICAL;
}

// The least logit that min-p keeps; the likeliest itself always stays.
fn bar_of(settings: Settings, top: f32) -> f32 {
    if settings.min_p > 0.0 {
        return max(min(top + log(settings.min_p), top), LOWEST);
    }
    return LOWEST;
}

// Whether tokens below that logit are of no interest. After top-k, top-p still wants its share of them.
fn ends_at_bar(settings: Settings) -> bool {
    return settings.min_p > 0.0 && !(by_count(settings) && settings.top_p < 1.0);
}

// Bins a nat. All but the last reach as far as a cut-off can lie: what top-p leaves out is more than its last
// token's weight times the vocabulary. With top-k nothing is known; 32 nats are more than rows of models have.
fn bin_scale(settings: Settings, whole: Row) -> f32 {
    var reach = 32.0;
    if settings.top_p < 1.0 && !by_count(settings) {
        reach = log(f32(params.vocabulary) / max((1.0 - settings.top_p) * whole.sum, 1e-30));
    }
    if ends_at_bar(settings) {
        reach = min(reach, -log(settings.min_p));
    }
    return f32(BINS - 1u) / clamp(fma(reach, 1.01, 0.05), 0.05, 104.0);
}

fn bin_of(z: f32, top: f32, scale: f32) -> u32 {
    return u32(min((top - z) * scale, f32(BINS - 1u)));
}
