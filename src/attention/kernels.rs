//! The kernels of attention: which files and constants make which variant.

use super::{AttentionProblem, Element, Mask};
use crate::gpu::{AdapterClass, Binding, Capabilities, Kernel, Source, shader, shared_struct};

/// Keys of one span of the decode kernel. Fixed and absolute: the invariance contract.
pub(super) const SPAN: u32 = 256;

shared_struct! {
    /// Parameters shared with `shaders/attention/params.wgsl`.
    pub(crate) struct AttentionParams {
        pub query_heads: u32,
        pub kv_heads: u32,
        pub group: u32,
        pub max_queries: u32,
        pub max_keys: u32,
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
        pub tree_words: u32,
        pub tree_base: u32,
        pub tree_stride: u32,
        pub scale: f32,
    }
}

fn query(element: Element) -> Source {
    match element {
        Element::F32 => shader!("attention/elements/query_f32.wgsl"),
        Element::F16 => shader!("attention/elements/query_f16.wgsl"),
    }
}

fn key(element: Element) -> Source {
    match element {
        Element::F32 => shader!("attention/elements/key_f32.wgsl"),
        Element::F16 => shader!("attention/elements/key_f16.wgsl"),
    }
}

fn value(element: Element) -> Source {
    match element {
        Element::F32 => shader!("attention/elements/value_f32.wgsl"),
        Element::F16 => shader!("attention/elements/value_f16.wgsl"),
    }
}

fn output(element: Element) -> Source {
    match element {
        Element::F32 => shader!("attention/elements/output_f32.wgsl"),
        Element::F16 => shader!("attention/elements/output_f16.wgsl"),
    }
}

fn mask(mask: Mask) -> Source {
    match mask {
        Mask::None => shader!("attention/mask_none.wgsl"),
        Mask::Causal => shader!("attention/mask_causal.wgsl"),
        Mask::Tree { .. } => shader!("attention/mask_tree.wgsl"),
    }
}

fn lse(problem: &AttentionProblem) -> Source {
    match problem.lse {
        true => shader!("attention/lse_store.wgsl"),
        false => shader!("attention/lse_none.wgsl"),
    }
}

/// The parts of a name that all kernels of a problem share, such as `f32-f16-f16-f32/d64/causal`.
fn suffix(problem: &AttentionProblem) -> String {
    let dims = match problem.head_dim == problem.value_dim {
        true => format!("d{}", problem.head_dim),
        false => format!("d{}v{}", problem.head_dim, problem.value_dim),
    };
    format!(
        "{}-{}-{}/{dims}/{}",
        problem.query.element.name(),
        problem.key.element.name(),
        problem.value.element.name(),
        problem.mask.name(),
    )
}

fn dims(kernel: Kernel, problem: &AttentionProblem) -> Kernel {
    kernel
        .constant("K_QUADS", problem.head_dim / 4)
        .constant("V_QUADS", problem.value_dim / 4)
}

const DECODE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Write,
];
const DECODE_TREE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Write,
    Binding::Read,
];

/// The decode and verify kernel for blocks of `rows` packed rows.
pub(super) fn decode(capabilities: &Capabilities, problem: &AttentionProblem, rows: u32) -> Kernel {
    let width = capabilities
        .spread_width()
        .filter(|_| capabilities.class == AdapterClass::Software);
    let (lanes, exchange, tag) = match width {
        Some(8) => (8, shader!("attention/lanes_subgroup8.wgsl"), "subgroup8"),
        Some(_) => (4, shader!("attention/lanes_subgroup4.wgsl"), "subgroup4"),
        None => (32, shader!("attention/lanes_workgroup.wgsl"), "workgroup32"),
    };
    let tree = matches!(problem.mask, Mask::Tree { .. });
    let name = format!("attention/decode/{}/r{rows}/{tag}", suffix(problem));
    let bindings = if tree { DECODE_TREE } else { DECODE };
    let kernel = Kernel::new(name, [lanes, 1, 1], AttentionParams::LAYOUT, bindings)
        .constant("ROWS", rows)
        .constant("LANES", lanes)
        .constant("SPAN", SPAN)
        .constant("TREE_BINDING", 7);
    let kernel = dims(kernel, problem)
        .source(shader!("attention/params.wgsl"))
        .source(shader!("attention/decode.wgsl"))
        .source(exchange)
        .source(mask(problem.mask))
        .source(query(problem.query.element))
        .source(key(problem.key.element))
        .source(value(problem.value.element));
    if width.is_some() {
        return kernel.uses_subgroups();
    }
    let held = (problem.head_dim / 4).next_multiple_of(lanes) * 16;
    kernel.workgroup_bytes(u64::from(rows * (held + lanes * 4)))
}

const MERGE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];
const MERGE_LSE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Write,
];

/// The kernel that joins the spans.
pub(super) fn merge(problem: &AttentionProblem) -> Kernel {
    let name = format!(
        "attention/merge/{}/v{}{}",
        problem.output.element.name(),
        problem.value_dim,
        if problem.lse { "/lse" } else { "" },
    );
    let bindings = if problem.lse { MERGE_LSE } else { MERGE };
    let kernel = Kernel::new(name, [32, 1, 1], AttentionParams::LAYOUT, bindings)
        .constant("SPAN", SPAN)
        .constant("LSE_BINDING", 5)
        .constant("V_QUADS", problem.value_dim / 4);
    kernel
        .source(shader!("attention/params.wgsl"))
        .source(shader!("attention/merge.wgsl"))
        .source(output(problem.output.element))
        .source(lse(problem))
}

const PREFILL: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
];
const PREFILL_LSE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Write,
];
const PREFILL_TREE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Read,
];
const PREFILL_TREE_LSE: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Read,
    Binding::Write,
];

/// Packed rows of one workgroup of the prefill kernel.
pub(super) const PREFILL_ROWS: u32 = 32;

/// The prefill kernel.
pub(super) fn prefill(problem: &AttentionProblem) -> Kernel {
    // 8 x 16 invocations with 2 rows x 4 keys each: a tile of the head is as wide as a row of
    // invocations, and all of it takes 13.4 KiB.
    const TILE_KEYS: u32 = 32;
    const THREADS: [u32; 2] = [8, 16];
    const CHUNK: u32 = THREADS[0];
    let tree = matches!(problem.mask, Mask::Tree { .. });
    let bindings = match (tree, problem.lse) {
        (false, false) => PREFILL,
        (false, true) => PREFILL_LSE,
        (true, false) => PREFILL_TREE,
        (true, true) => PREFILL_TREE_LSE,
    };
    let name = format!(
        "attention/prefill/{}/{}/q{PREFILL_ROWS}k{TILE_KEYS}{}",
        suffix(problem),
        problem.output.element.name(),
        if problem.lse { "/lse" } else { "" },
    );
    let params = AttentionParams::LAYOUT;
    let kernel = Kernel::new(name, [THREADS[0], THREADS[1], 1], params, bindings)
        .constant("BLOCK_ROWS", PREFILL_ROWS)
        .constant("TILE_KEYS", TILE_KEYS)
        .constant("THREADS_X", THREADS[0])
        .constant("THREADS_Y", THREADS[1])
        .constant("CHUNK", CHUNK)
        .constant("TREE_BINDING", 6)
        .constant("LSE_BINDING", if tree { 7 } else { 6 });
    let staged = (PREFILL_ROWS + TILE_KEYS) * (CHUNK + 1) * 16;
    let scores = PREFILL_ROWS * (TILE_KEYS + 1) * 4;
    dims(kernel, problem)
        .source(shader!("attention/params.wgsl"))
        .source(shader!("attention/prefill.wgsl"))
        .source(mask(problem.mask))
        .source(query(problem.query.element))
        .source(key(problem.key.element))
        .source(value(problem.value.element))
        .source(output(problem.output.element))
        .source(lse(problem))
        .workgroup_bytes(u64::from(staged + scores))
}
