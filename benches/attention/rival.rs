//! The rival: attention in three passes, straightforward WGSL without tiles.

use sunfleck::{
    attention::Element,
    gpu::{Gpu, GpuError},
    wgpu,
};

use crate::{cases::Case, pipelines, tensors::Tensors, timing::Work};

/// Most bytes of scores in memory at a time.
const SCORE_BYTES: u64 = 256 << 20;

/// Invocations of a workgroup along x in all three passes.
const WORKGROUP: u32 = 64;

/// A dispatch of one pass.
struct Dispatch {
    pass: usize,
    groups: wgpu::BindGroup,
    workgroups: [u32; 3],
}

/// The rival, compiled and bound for a case.
///
/// # Errors
/// [`GpuError::LimitExceeded`] when not even the scores of one head fit.
pub fn work(gpu: &Gpu, case: &Case, tensors: &Tensors) -> Result<Work, GpuError> {
    let elements = match case.element {
        Element::F16 => include_str!("naive_f16.wgsl"),
        _ => include_str!("naive_f32.wgsl"),
    };
    let passes = [
        ("naive scores", include_str!("naive_scores.wgsl")),
        ("naive softmax", include_str!("naive_softmax.wgsl")),
        ("naive values", include_str!("naive_values.wgsl")),
    ]
    .map(|(name, text)| {
        let wgsl = [include_str!("naive_params.wgsl"), elements, text].join("\n");
        pipelines::compile(gpu, name, &wgsl)
    });

    let limits = &gpu.capabilities().limits;
    let head_bytes = u64::from(case.queries) * u64::from(case.keys) * 4;
    let most = SCORE_BYTES
        .min(limits.max_storage_buffer_binding_size)
        .min(limits.max_buffer_size);
    let heads_at_once = (most / head_bytes).clamp(1, u64::from(case.heads)) as u32;
    let scores = gpu.storage("scores", head_bytes * u64::from(heads_at_once))?;

    let quads = case.dim / 4;
    let mut copies = vec![];
    for [key, value] in &tensors.caches {
        let mut dispatches = vec![];
        for first_head in (0..case.heads).step_by(heads_at_once as usize) {
            let heads = heads_at_once.min(case.heads - first_head);
            let params = pipelines::uniform(
                gpu,
                &[
                    case.queries,
                    case.keys,
                    case.heads,
                    case.heads / case.kv_heads,
                    quads,
                    first_head,
                    u32::from(case.causal),
                    case.problem().scale.to_bits(),
                ],
            );
            let bind = |pass: usize, buffers: &[&wgpu::Buffer]| {
                let buffers = [&[&params][..], buffers].concat();
                pipelines::bind(gpu, &passes[pass], &buffers)
            };
            dispatches.extend([
                Dispatch {
                    pass: 0,
                    groups: bind(0, &[&tensors.query, key, &scores]),
                    workgroups: [case.keys.div_ceil(WORKGROUP), case.queries, heads],
                },
                Dispatch {
                    pass: 1,
                    groups: bind(1, &[&scores]),
                    workgroups: [case.queries, heads, 1],
                },
                Dispatch {
                    pass: 2,
                    groups: bind(2, &[&scores, value, &tensors.rival_output]),
                    workgroups: [(case.queries * quads).div_ceil(WORKGROUP), heads, 1],
                },
            ]);
        }
        copies.push(dispatches);
    }
    Ok(Work::new(move |pass, call| {
        for dispatch in &copies[(call % copies.len() as u64) as usize] {
            pass.set_pipeline(&passes[dispatch.pass]);
            pass.set_bind_group(0, &dispatch.groups, &[]);
            let [x, y, z] = dispatch.workgroups;
            pass.dispatch_workgroups(x, y, z);
        }
    }))
}
