// Logits into weights: penalties, grammar mask, temperature, cut-off. Nothing is written back.

const LOWEST: f32 = -3.4028234e38; // stands for -inf: the token has no probability
const HIGHEST: f32 = 3.4028234e38;

// Whether processed logits, before the cut-off, are others than those that the target gave.
fn changes_logits(settings: Settings) -> bool {
    return settings.coldness != 1.0 || settings.uses != 0u;
}

// Whether top-k cuts anything: then bins count tokens, and all tokens down to the cut-off are candidates.
fn by_count(settings: Settings) -> bool {
    return settings.top_k > 0u && settings.top_k < params.vocabulary;
}

fn has_cut(settings: Settings) -> bool {
    return by_count(settings) || settings.top_p < 1.0 || settings.min_p > 0.0;
}

// A row of logits: of the target after a node, or the one from which the node's children were drawn.
struct Source {
    start: u32, // element of the row's first logit
    marks: u32, // word of scratch where the node's marks begin
}

fn marks_of(request: u32, node: u32) -> u32 {
    let row = request * params.max_nodes + node - params.first_row;
    return params.marks_at + 2u * row * params.mask_words;
}

fn target_source(request: u32, node: u32) -> Source {
    let row = request * params.max_nodes + node - params.first_row;
    return Source(row * params.row_stride, marks_of(request, node));
}

// The logit as a finite number; LOWEST for -inf and NaN.
fn finite(bits: u32) -> f32 {
    let nothing = (bits & 0x7fffffffu) > 0x7f800000u || bits == 0xff800000u;
    return select(min(bitcast<f32>(select(bits, 0u, nothing)), HIGHEST), LOWEST, nothing);
}

fn finite_four(bits: vec4<u32>) -> vec4<f32> {
    let nothing = ((bits & vec4(0x7fffffffu)) > vec4(0x7f800000u)) | (bits == vec4(0xff800000u));
    let numbers = min(bitcast<vec4<f32>>(select(bits, vec4(0u), nothing)), vec4(HIGHEST));
    return select(numbers, vec4(LOWEST), nothing);
}

fn raw_logit(source: Source, y: u32) -> f32 {
    return finite(target_bits(source.start + y));
}

// Those of four tokens in order, of which the first is a multiple of four.
fn raw_four(source: Source, y: u32) -> vec4<f32> {
    return finite_four(target_four(source.start + y));
}

fn target_z_four(source: Source, settings: Settings, y: u32) -> vec4<f32> {
    return shaped_four(settings, source.marks, y, raw_four(source, y));
}

// The processed logit before the cut-off; LOWEST for a token without probability.
fn target_z(source: Source, settings: Settings, y: u32) -> f32 {
    return shaped(settings, source.marks, y, raw_logit(source, y));
}

fn target_z_before(source: Source, settings: Settings, y: u32, end: u32) -> f32 {
    return select(target_z(source, settings, min(y, end - 1u)), LOWEST, y >= end);
}

// Those of four tokens of which not all are before `end`; LOWEST for the others.
fn target_z_four_before(source: Source, settings: Settings, y: u32, end: u32) -> vec4<f32> {
    return vec4(
        target_z_before(source, settings, y, end), target_z_before(source, settings, y + 1u, end),
        target_z_before(source, settings, y + 2u, end), target_z_before(source, settings, y + 3u, end));
}

// A number that orders as floats do.
fn key_of(z: f32) -> u32 {
    var bits = bitcast<u32>(z);
    bits = select(bits, 0u, bits == 0x80000000u); // -0 equals 0
    return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}

// exp(z - max): at most 1, and 0 for a token without probability.
fn exponential(z: f32, top: f32) -> f32 {
    // Below exp(-104) f32 holds nothing; the bound keeps infinities out.
    return select(exp(max(z - top, -150.0)), 0.0, z <= LOWEST);
}

fn key_of_four(z: vec4<f32>) -> vec4<u32> {
    var bits = bitcast<vec4<u32>>(z);
    bits = select(bits, vec4(0u), bits == vec4(0x80000000u));
    return select(bits | vec4(0x80000000u), ~bits, (bits & vec4(0x80000000u)) != vec4(0u));
}

// The probabilities of four tokens in order from `y` on with the processed logits `z`.
fn probability_four(row: Row, z: vec4<f32>, y: u32) -> vec4<f32> {
    let keys = key_of_four(z);
    let tokens = vec4(y) + vec4(0u, 1u, 2u, 3u);
    let kept = (keys > vec4(row.cut)) | ((keys == vec4(row.cut)) & (tokens <= vec4(row.last)));
    let weights = exp(max(z - vec4(row.max), vec4(-150.0))) / vec4(row.sum);
    return select(vec4(0.0), weights, kept & (z > vec4(LOWEST)) & vec4(row.sum > 0.0));
}

// The probability under a row of the token `y` with the processed logit `z`.
fn probability(row: Row, z: f32, y: u32) -> f32 {
    let key = key_of(z);
    let kept = key > row.cut || (key == row.cut && y <= row.last);
    return select(0.0, exponential(z, row.max) / row.sum, kept && row.sum > 0.0);
}
