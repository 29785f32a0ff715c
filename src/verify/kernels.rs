//! The kernels of verification, as text and bindings.

use crate::attention::Element;
use crate::gpu::{AdapterClass, Binding, Capabilities, Kernel, Source, shader, shared_struct};

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

/// Invocations of a workgroup that walks rows. A software adapter runs them one vector after another and
/// switches between them at each barrier: few are cheaper there.
pub(super) fn lanes(capabilities: &Capabilities) -> u32 {
    match capabilities.class {
        AdapterClass::Software => SOFTWARE_LANES,
        _ => HARDWARE_LANES,
    }
}

const SOFTWARE_LANES: u32 = 32;
const HARDWARE_LANES: u32 = 256;
const FINALISE_LANES: u32 = 64;

/// `scratch` and `sums` of `shaders/verify/process.wgsl`.
fn sum_bytes(lanes: u32) -> u64 {
    u64::from(lanes) * 4 + 16 * 4
}

fn logits(element: Element) -> Source {
    match element {
        // A problem with quantised logits is refused.
        Element::F32 | Element::Q8 | Element::Q4 => shader!("verify/logits_f32.wgsl"),
        Element::F16 => shader!("verify/logits_f16.wgsl"),
        Element::Bf16 => shader!("verify/logits_bf16.wgsl"),
    }
}

fn over_rows(name: &str, element: Element, lanes: u32, bindings: &[Binding]) -> Kernel {
    let layout = VerifyParams::LAYOUT;
    Kernel::new(
        format!("verify/{name}/{}/l{lanes}", element.name()),
        [lanes, 1, 1],
        layout,
        bindings,
    )
    .source(shader!("verify/state.wgsl"))
    .source(shader!("verify/process.wgsl"))
    .source(logits(element))
}

pub(super) fn rows(element: Element, lanes: u32) -> Kernel {
    over_rows(
        "rows",
        element,
        lanes,
        &[Uniform, Read, Read, Write, Read, Read, Read],
    )
    .source(shader!("verify/rows.wgsl"))
    .workgroup_bytes(sum_bytes(lanes) + u64::from(lanes) * 8 + 16 * 8)
}

pub(super) fn children(element: Element, lanes: u32) -> Kernel {
    over_rows(
        "children",
        element,
        lanes,
        &[Uniform, Read, Read, Write, Read, Read, Read],
    )
    .source(shader!("verify/children.wgsl"))
    .workgroup_bytes(sum_bytes(lanes))
}

pub(super) fn joint(element: Element, lanes: u32) -> Kernel {
    over_rows(
        "joint",
        element,
        lanes,
        &[Uniform, Read, Read, Write, Read, Read, Read],
    )
    .source(shader!("verify/joint.wgsl"))
    .workgroup_bytes(sum_bytes(lanes))
}

pub(super) fn sample(element: Element, lanes: u32) -> Kernel {
    let bindings = [Uniform, Read, Read, Write, Read, Read, Read, Write];
    over_rows("sample", element, lanes, &bindings)
        .source(shader!("verify/philox.wgsl"))
        .source(shader!("verify/sample.wgsl"))
        .workgroup_bytes(sum_bytes(lanes) + u64::from(lanes) * 4 + 8)
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
        for lanes in [SOFTWARE_LANES, HARDWARE_LANES] {
            kernels.extend([
                rows(element, lanes),
                children(element, lanes),
                joint(element, lanes),
                sample(element, lanes),
            ]);
        }
    }
    kernels
}
