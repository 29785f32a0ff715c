//! The kernels of verification, as text and bindings.

use crate::attention::Element;
use crate::gpu::{Binding, Kernel, Source, shader, shared_struct};

use Binding::{Read, Uniform, Write};

shared_struct! {
    /// Parameters shared with `shaders/verify/state.wgsl`.
    pub(crate) struct VerifyParams {
        pub(super) vocabulary: u32,
        pub(super) row_stride: u32,
        pub(super) max_nodes: u32,
        pub(super) tree_words: u32,
        pub(super) first_row: u32,
        pub(super) draft_rows: u32,
        pub(super) mask_words: u32,
        pub(super) mask_rows: u32,
        pub(super) outcome_words: u32,
        pub(super) part_rows: u32,
        pub(super) tree_stride: u32,
    }
}

shared_struct! {
    /// Parameters shared with `shaders/verify/finalise.wgsl`.
    pub(crate) struct FinaliseParams {
        pub(super) batch: u32,
        pub(super) outcome_words: u32,
    }
}

/// Bytes of `NodeState` in `shaders/verify/state.wgsl`.
pub(super) const NODE_BYTES: u64 = 96;

/// Invocations of a workgroup that walks rows. On lavapipe too: with 32, a softmax over 262,144 tokens came out
/// wrong there, as if loops ended early once an invocation had turned them some ten thousand times.
const LANES: u32 = 256;
const FINALISE_LANES: u32 = 64;

/// `scratch` and `sums` of `shaders/verify/process.wgsl`.
const SUM_BYTES: u64 = LANES as u64 * 4 + 16 * 4;

fn logits(element: Element) -> Source {
    match element {
        // A problem with quantised logits is refused.
        Element::F32 | Element::Q8 | Element::Q4 => shader!("verify/logits_f32.wgsl"),
        Element::F16 => shader!("verify/logits_f16.wgsl"),
        Element::Bf16 => shader!("verify/logits_bf16.wgsl"),
    }
}

fn over_rows(name: &str, element: Element, bindings: &[Binding]) -> Kernel {
    let layout = VerifyParams::LAYOUT;
    Kernel::new(
        format!("verify/{name}/{}", element.name()),
        [LANES, 1, 1],
        layout,
        bindings,
    )
    .source(shader!("verify/state.wgsl"))
    .source(shader!("verify/process.wgsl"))
    .source(logits(element))
}

pub(super) fn rows(element: Element) -> Kernel {
    over_rows(
        "rows",
        element,
        &[Uniform, Read, Read, Write, Read, Read, Read],
    )
    .source(shader!("verify/rows.wgsl"))
    .workgroup_bytes(SUM_BYTES + u64::from(LANES) * 8 + 16 * 8)
}

pub(super) fn children(element: Element) -> Kernel {
    over_rows(
        "children",
        element,
        &[Uniform, Read, Read, Write, Read, Read, Read],
    )
    .source(shader!("verify/children.wgsl"))
    .workgroup_bytes(SUM_BYTES)
}

pub(super) fn joint(element: Element) -> Kernel {
    over_rows(
        "joint",
        element,
        &[Uniform, Read, Read, Write, Read, Read, Read],
    )
    .source(shader!("verify/joint.wgsl"))
    .workgroup_bytes(SUM_BYTES)
}

pub(super) fn sample(element: Element) -> Kernel {
    let bindings = [Uniform, Read, Read, Write, Read, Read, Read, Write];
    over_rows("sample", element, &bindings)
        .source(shader!("verify/philox.wgsl"))
        .source(shader!("verify/sample.wgsl"))
        .workgroup_bytes(SUM_BYTES + u64::from(LANES) * 4 + 8)
}

pub(super) fn walk() -> Kernel {
    let bindings = [Uniform, Read, Read, Write, Read, Write];
    Kernel::new("verify/walk", [1, 1, 1], VerifyParams::LAYOUT, &bindings)
        .source(shader!("verify/state.wgsl"))
        .source(shader!("verify/philox.wgsl"))
        .source(shader!("verify/walk.wgsl"))
}

pub(super) fn finalise() -> Kernel {
    let bindings = [Uniform, Read, Write];
    Kernel::new(
        "verify/finalise",
        [FINALISE_LANES, 1, 1],
        FinaliseParams::LAYOUT,
        &bindings,
    )
    .source(shader!("verify/finalise.wgsl"))
}

/// Workgroups of [`finalise`] for a batch.
pub(super) fn finalise_groups(batch: u32) -> u32 {
    batch.div_ceil(FINALISE_LANES)
}

/// Every variant.
pub(super) fn variants() -> Vec<Kernel> {
    let mut kernels = vec![walk(), finalise()];
    for element in Element::FLOATS {
        kernels.extend([
            rows(element),
            children(element),
            joint(element),
            sample(element),
        ]);
    }
    kernels
}
