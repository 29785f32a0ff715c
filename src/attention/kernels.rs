//! The kernels of attention: which files and constants make which variant.

use std::fmt::Write as _;

use super::tile::{DecodeTile, PrefillTile};
use super::{AttentionProblem, Element, Mask, QUANT_BLOCK};
use crate::gpu::{Binding, Kernel, Source, shader, shared_struct};

/// Keys of one span of the decode kernel. Fixed and absolute: the invariance contract.
pub(super) const SPAN: u32 = 256;

/// Invocations of the merge kernel, and spans that it weighs at a time.
const MERGE_LANES: u32 = 32;

/// Query heads that can have values of their own (ALiBi slopes, sinks): a uniform buffer holds
/// them, and 4 KiB are well within what every device binds.
pub(super) const MAX_HEADS: u32 = 256;

shared_struct! {
    /// Parameters shared with `shaders/attention/params.wgsl`.
    pub(crate) struct AttentionParams {
        pub query_heads: u32,
        pub kv_heads: u32,
        pub first_kv_head: u32,
        pub group: u32,
        pub max_queries: u32,
        pub max_keys: u32,
        pub total_queries: u32,
        pub total_keys: u32,
        pub q_batch: u32,
        pub q_token: u32,
        pub q_head: u32,
        pub k_batch: u32,
        pub k_token: u32,
        pub k_head: u32,
        pub v_batch: u32,
        pub v_token: u32,
        pub v_head: u32,
        pub o_batch: u32,
        pub o_token: u32,
        pub o_head: u32,
        pub max_spans: u32,
        pub chunk_start: u32,
        pub chunk: u32,
        pub tree_words: u32,
        pub tree_base: u32,
        pub tree_depth: u32,
        pub tree_nodes: u32,
        pub tree_stride: u32,
        pub prefix: u32,
        pub window: u32,
        pub bias_batch: u32,
        pub bias_head: u32,
        pub bias_query: u32,
        pub bias_size: u32,
        pub table_stride: u32,
        pub first_entry: u32,
        pub first_key: u32,
        pub pool_pages: u32,
        pub tree_most: u32,
        pub scale: f32,
        pub softcap: f32,
    }
}

/// An argument that only some problems have, bound after those that all have, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extra {
    Pages,
    Tree,
    Bias,
    Heads,
    Lse,
}

impl Extra {
    fn binding(self) -> Binding {
        match self {
            Self::Pages | Self::Tree | Self::Bias => Binding::Read,
            Self::Heads => Binding::Uniform,
            Self::Lse => Binding::Write,
        }
    }

    /// Name of the constant with the binding's number.
    fn constant(self) -> &'static str {
        match self {
            Self::Pages => "PAGES_BINDING",
            Self::Tree => "TREE_BINDING",
            Self::Bias => "BIAS_BINDING",
            Self::Heads => "HEADS_BINDING",
            Self::Lse => "LSE_BINDING",
        }
    }
}

/// Extras of the kernels that compute scores.
fn score_extras(problem: &AttentionProblem) -> Vec<Extra> {
    [
        (Extra::Pages, problem.pages.is_some()),
        (Extra::Tree, problem.mask.tree_nodes().is_some()),
        (Extra::Bias, problem.bias.is_some()),
        (Extra::Heads, problem.alibi_slopes.is_some()),
    ]
    .into_iter()
    .filter_map(|(extra, wanted)| wanted.then_some(extra))
    .collect()
}

/// Extras of the decode kernel.
pub(super) fn decode_extras(problem: &AttentionProblem) -> Vec<Extra> {
    score_extras(problem)
}

/// Extras of the merge kernel.
pub(super) fn merge_extras(problem: &AttentionProblem) -> Vec<Extra> {
    [
        (Extra::Heads, problem.sinks.is_some()),
        (Extra::Lse, problem.lse),
    ]
    .into_iter()
    .filter_map(|(extra, wanted)| wanted.then_some(extra))
    .collect()
}

/// Extras of the prefill kernel.
pub(super) fn prefill_extras(problem: &AttentionProblem) -> Vec<Extra> {
    let mut extras = score_extras(problem);
    for extra in merge_extras(problem) {
        if !extras.contains(&extra) {
            extras.push(extra);
        }
    }
    extras
}

/// A kernel with `common` bindings and the extras after them.
fn with_extras(
    name: String,
    workgroup_size: [u32; 3],
    common: &[Binding],
    extras: &[Extra],
) -> Kernel {
    let bindings: Vec<_> = common
        .iter()
        .copied()
        .chain(extras.iter().map(|extra| extra.binding()))
        .collect();
    let mut kernel = Kernel::new(name, workgroup_size, AttentionParams::LAYOUT, &bindings);
    for (i, extra) in (common.len() as u32..).zip(extras) {
        kernel = kernel.constant(extra.constant(), i);
    }
    if extras.contains(&Extra::Heads) {
        kernel = kernel
            .constant("MAX_HEADS", MAX_HEADS)
            .source(shader!("attention/head_values.wgsl"));
    }
    kernel
}

/// Files that decide which keys a row sees and what happens to its scores.
fn scores(kernel: Kernel, problem: &AttentionProblem) -> Kernel {
    let end = matches!(problem.mask, Mask::TreeEnd { .. });
    let kernel = kernel
        .source(mask(problem.mask))
        .source(match problem.window {
            Some(_) => shader!("attention/window_sliding.wgsl"),
            None => shader!("attention/window_none.wgsl"),
        })
        .constant("TREE_MASK", u32::from(problem.mask.tree_nodes().is_some()))
        .constant("TREE_END", u32::from(end))
        .constant("BIAS_HIDES", u32::from(problem.bias.is_some()));
    if problem.softcap.is_none() && problem.alibi_slopes.is_none() && problem.bias.is_none() {
        return kernel.source(shader!("attention/score_plain.wgsl"));
    }
    let kernel = kernel
        .constant("SOFTCAP", u32::from(problem.softcap.is_some()))
        .source(shader!("attention/score_modified.wgsl"))
        .source(match problem.bias {
            Some(_) => shader!("attention/bias_add.wgsl"),
            None => shader!("attention/bias_none.wgsl"),
        });
    kernel.source(match problem.alibi_slopes {
        Some(_) => shader!("attention/alibi_add.wgsl"),
        None => shader!("attention/alibi_none.wgsl"),
    })
}

fn sink(problem: &AttentionProblem) -> Source {
    match problem.sinks {
        Some(_) => shader!("attention/sink_add.wgsl"),
        None => shader!("attention/sink_none.wgsl"),
    }
}

fn query(element: Element) -> Source {
    match element {
        // A problem with quantised queries is refused.
        Element::F32 | Element::Q8 | Element::Q4 => {
            shader!("attention/elements/query_f32.wgsl")
        }
        Element::F16 => shader!("attention/elements/query_f16.wgsl"),
        Element::Bf16 => shader!("attention/elements/query_bf16.wgsl"),
    }
}

fn key(element: Element) -> Source {
    match element {
        Element::F32 => shader!("attention/elements/key_f32.wgsl"),
        Element::F16 => shader!("attention/elements/key_f16.wgsl"),
        Element::Bf16 => shader!("attention/elements/key_bf16.wgsl"),
        Element::Q8 => shader!("attention/elements/key_q8.wgsl"),
        Element::Q4 => shader!("attention/elements/key_q4.wgsl"),
    }
}

pub(super) fn value(element: Element) -> Source {
    match element {
        Element::F32 => shader!("attention/elements/value_f32.wgsl"),
        Element::F16 => shader!("attention/elements/value_f16.wgsl"),
        Element::Bf16 => shader!("attention/elements/value_bf16.wgsl"),
        Element::Q8 => shader!("attention/elements/value_q8.wgsl"),
        Element::Q4 => shader!("attention/elements/value_q4.wgsl"),
    }
}

/// Files that read keys and values: their element types and where they lie.
fn keys_and_values(mut kernel: Kernel, problem: &AttentionProblem) -> Kernel {
    let (k, v) = (problem.key.element, problem.value.element);
    kernel = kernel.source(key(k)).source(value(v));
    if !k.is_quantised() {
        kernel = kernel.source(shader!("attention/elements/key_float.wgsl"));
    }
    if !v.is_quantised() {
        kernel = kernel.source(shader!("attention/elements/value_float.wgsl"));
    }
    if k.is_quantised() || v.is_quantised() {
        kernel = kernel.constant("QUANT_QUADS", QUANT_BLOCK / 4);
    }
    rows_of(kernel, problem)
}

/// The file that says where a token's key and value lie.
fn rows_of(kernel: Kernel, problem: &AttentionProblem) -> Kernel {
    match problem.pages {
        Some(pages) => kernel
            .constant("PAGE_TOKENS", pages.page_tokens)
            .source(shader!("attention/rows_paged.wgsl")),
        None => kernel.source(shader!("attention/rows_strided.wgsl")),
    }
}

pub(super) fn output(element: Element) -> Source {
    match element {
        Element::F32 | Element::Q8 | Element::Q4 => {
            shader!("attention/elements/output_f32.wgsl")
        }
        Element::F16 => shader!("attention/elements/output_f16.wgsl"),
        Element::Bf16 => shader!("attention/elements/output_bf16.wgsl"),
    }
}

fn mask(mask: Mask) -> Source {
    match mask {
        Mask::None => shader!("attention/mask_none.wgsl"),
        Mask::Causal | Mask::Prefix { .. } => shader!("attention/mask_causal.wgsl"),
        Mask::Tree { .. } | Mask::TreeEnd { .. } => shader!("attention/mask_tree.wgsl"),
    }
}

fn lse(problem: &AttentionProblem) -> Source {
    match problem.lse {
        true => shader!("attention/lse_store.wgsl"),
        false => shader!("attention/lse_none.wgsl"),
    }
}

/// The parts of a name that all kernels which compute scores share, such as
/// `f32-f16-f16/d64/causal-window`.
fn suffix(problem: &AttentionProblem) -> String {
    let dims = match problem.head_dim == problem.value_dim {
        true => format!("d{}", problem.head_dim),
        false => format!("d{}v{}", problem.head_dim, problem.value_dim),
    };
    let mut name = format!(
        "{}-{}-{}/{dims}/{}",
        problem.query.element.name(),
        problem.key.element.name(),
        problem.value.element.name(),
        problem.mask.name(),
    );
    if let Some(pages) = problem.pages {
        // Writing to a String cannot fail.
        let _ = write!(name, "-page{}", pages.page_tokens);
    }
    for (extra, wanted) in [
        ("-window", problem.window.is_some()),
        ("-softcap", problem.softcap.is_some()),
        ("-alibi", problem.alibi_slopes.is_some()),
        ("-bias", problem.bias.is_some()),
    ] {
        if wanted {
            name.push_str(extra);
        }
    }
    name
}

/// What a kernel that ends rows has in its name beside the output's element.
fn end_suffix(problem: &AttentionProblem) -> String {
    let sinks = if problem.sinks.is_some() {
        "/sinks"
    } else {
        ""
    };
    let lse = if problem.lse { "/lse" } else { "" };
    format!("{}{sinks}{lse}", problem.output.element.name())
}

fn dims(kernel: Kernel, problem: &AttentionProblem) -> Kernel {
    kernel
        .constant("K_QUADS", problem.head_dim / 4)
        .constant("V_QUADS", problem.value_dim / 4)
}

/// The decode and verify kernel for blocks of `rows` packed rows.
pub(super) fn decode(tile: DecodeTile, problem: &AttentionProblem, rows: u32) -> Kernel {
    const COMMON: [Binding; 6] = [
        Binding::Uniform, // params
        Binding::Read,    // lengths
        Binding::Read,    // query
        Binding::Read,    // key
        Binding::Read,    // value
        Binding::Write,   // partial states
    ];
    let (family, tag, size) = match tile {
        DecodeTile::Subgroup { lanes } => ("decode", format!("/subgroup{lanes}"), lanes),
        DecodeTile::Span => ("decode_span", String::new(), SPAN),
        // A subgroup of 32 for each 16 keys of a tile and 16 rows.
        DecodeTile::Cooperative { keys } => (
            "decode_cooperative",
            format!("k{keys}"),
            rows / 16 * (keys / 16) * 32,
        ),
    };
    let name = format!("attention/{family}/{}/r{rows}{tag}", suffix(problem));
    let kernel = with_extras(name, [size, 1, 1], &COMMON, &decode_extras(problem))
        .constant("ROWS", rows)
        .constant("SPAN", SPAN)
        .source(shader!("attention/params.wgsl"));
    let kernel = scores(dims(kernel, problem), problem);
    if let DecodeTile::Cooperative { keys } = tile {
        let dim = problem.head_dim.max(problem.value_dim) / 4;
        let halves = keys * (dim + 2) + rows * (SPAN / 4 + 2);
        let scores = size / 32 * 16 * 5;
        let reductions = 2 * rows * (keys / 16) + 4;
        return rows_of(kernel, problem)
            .constant("TILE_KEYS", keys)
            .source(shader!("attention/decode_cooperative.wgsl"))
            .workgroup_bytes(u64::from(halves * 8 + scores * 16 + reductions * 4))
            .uses_cooperative_matrices();
    }
    let kernel = keys_and_values(kernel.source(query(problem.query.element)), problem);
    match tile {
        DecodeTile::Cooperative { .. } => kernel,
        DecodeTile::Subgroup { lanes } => kernel
            .constant("LANES", lanes)
            .source(shader!("attention/decode.wgsl"))
            .source(match lanes {
                8 => shader!("attention/lanes_subgroup8.wgsl"),
                _ => shader!("attention/lanes_subgroup4.wgsl"),
            })
            .uses_subgroups(),
        DecodeTile::Span => {
            let k = problem.head_dim / 4;
            let scratch = (rows * k).max(2 * SPAN) * 16;
            kernel
                // Loads of an invocation that are under way together.
                .constant("K_STEP", if k.is_multiple_of(4) { 4 } else { 1 })
                .constant("V_STEP", 8)
                .source(shader!("attention/decode_span.wgsl"))
                .workgroup_bytes(u64::from(scratch + rows * SPAN * 4))
        }
    }
}

/// The kernel that joins the spans.
pub(super) fn merge(problem: &AttentionProblem) -> Kernel {
    const COMMON: [Binding; 4] = [
        Binding::Uniform, // params
        Binding::Read,    // lengths
        Binding::Read,    // partial states
        Binding::Write,   // output
    ];
    let name = format!(
        "attention/merge/v{}/{}",
        problem.value_dim,
        end_suffix(problem)
    );
    with_extras(name, [MERGE_LANES, 1, 1], &COMMON, &merge_extras(problem))
        .constant("SPAN", SPAN)
        .constant("V_QUADS", problem.value_dim / 4)
        .source(shader!("attention/params.wgsl"))
        .source(shader!("attention/merge.wgsl"))
        .source(output(problem.output.element))
        .source(sink(problem))
        .source(lse(problem))
        .workgroup_bytes(u64::from(MERGE_LANES) * 8)
}

/// The kernel that joins a shared prefix with each sequence's own keys.
pub(super) fn merge_prefix(problem: &AttentionProblem) -> Kernel {
    const COMMON: [Binding; 7] = [
        Binding::Uniform, // params
        Binding::Read,    // lengths
        Binding::Read,    // prefix output
        Binding::Read,    // prefix LSE
        Binding::Read,    // own output
        Binding::Read,    // own LSE
        Binding::Write,   // output
    ];
    let extras = match problem.lse {
        true => vec![Extra::Lse],
        false => vec![],
    };
    let name = format!(
        "attention/merge_prefix/v{}/{}{}",
        problem.value_dim,
        problem.output.element.name(),
        if problem.lse { "/lse" } else { "" }
    );
    with_extras(name, [MERGE_LANES, 1, 1], &COMMON, &extras)
        .constant("V_QUADS", problem.value_dim / 4)
        .source(shader!("attention/params.wgsl"))
        .source(shader!("attention/merge_prefix.wgsl"))
        .source(output(problem.output.element))
        .source(lse(problem))
}

/// The prefill kernel of a shape.
pub(super) fn prefill(tile: PrefillTile, problem: &AttentionProblem) -> Kernel {
    const COMMON: [Binding; 6] = [
        Binding::Uniform, // params
        Binding::Read,    // lengths
        Binding::Read,    // query
        Binding::Read,    // key
        Binding::Read,    // value
        Binding::Write,   // output
    ];
    let (family, tag, size) = match tile {
        PrefillTile::Workgroup {
            rows,
            keys,
            threads: [x, y],
            ..
        } => ("prefill", format!("q{rows}k{keys}"), [x, y, 1]),
        PrefillTile::Lanes { lanes, rows } => (
            "prefill_lanes",
            format!("subgroup{lanes}r{rows}"),
            [lanes, 1, 1],
        ),
        PrefillTile::Cooperative { subgroups, keys } => (
            "prefill_cooperative",
            format!("q{}k{keys}", tile.block_rows()),
            [subgroups * 32, 1, 1],
        ),
    };
    let name = format!(
        "attention/{family}/{}/{tag}/{}",
        suffix(problem),
        end_suffix(problem),
    );
    let kernel = with_extras(name, size, &COMMON, &prefill_extras(problem))
        .source(shader!("attention/params.wgsl"))
        .source(output(problem.output.element))
        .source(sink(problem))
        .source(lse(problem));
    let kernel = scores(dims(kernel, problem), problem);
    if let PrefillTile::Cooperative { keys, .. } = tile {
        let (k, v) = (problem.head_dim / 4, problem.value_dim / 4);
        let rows = tile.block_rows();
        let halves = (keys * (k + 2)).max(rows * 6) + keys * (v + 2) + rows * (keys / 4 + 2);
        let scores = rows * (keys / 4 + 1);
        return rows_of(kernel, problem)
            .constant("TILE_KEYS", keys)
            .source(shader!("attention/prefill_cooperative.wgsl"))
            .workgroup_bytes(u64::from(halves * 8 + scores * 16 + 16))
            .uses_cooperative_matrices();
    }
    let kernel = keys_and_values(kernel.source(query(problem.query.element)), problem);
    match tile {
        PrefillTile::Cooperative { .. } => kernel,
        PrefillTile::Workgroup {
            rows,
            keys,
            chunk,
            threads: [x, y],
        } => {
            // Value quads are staged for two output quads of each invocation at a time; for one where
            // there are no more, unless that were less than a load for each invocation.
            let v_step = (problem.value_dim / 4)
                .div_ceil(x)
                .min(2)
                .max(y.div_ceil(x));
            let chunks = 2 * (rows + keys) * chunk;
            let slice = x * (rows / 4 + x * v_step);
            kernel
                .constant("BLOCK_ROWS", rows)
                .constant("TILE_KEYS", keys)
                .constant("THREADS_X", x)
                .constant("THREADS_Y", y)
                .constant("ROWS", rows / y)
                .constant("KEYS", keys / x)
                .constant("CHUNK", chunk)
                .constant("V_STEP", v_step)
                .source(shader!("attention/prefill.wgsl"))
                .workgroup_bytes(u64::from(chunks.max(slice) * 16))
        }
        PrefillTile::Lanes { lanes, rows } => kernel
            .constant("LANES", lanes)
            .constant("LANE_ROWS", rows)
            .source(match lanes {
                8 => shader!("attention/spread8.wgsl"),
                _ => shader!("attention/spread4.wgsl"),
            })
            .source(shader!("attention/prefill_lanes.wgsl"))
            .uses_subgroups(),
    }
}
