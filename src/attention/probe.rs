//! Whether cooperative matrices give right results on this device, and faster: tried once.
//!
//! A driver that lists them may still be wrong (the layout of subgroups in a workgroup is not
//! promised by WGSL) or slow. So the first plan that would use them runs a small problem with
//! them and without.

use std::time::{Duration, Instant};

use super::{
    AttentionError, AttentionIo, AttentionProblem, Element, Mask, PreparedAttention, lengths,
};
use crate::gpu::{BufferView, Capabilities, Gpu, GpuError};

/// Query heads, head size and keys of the trial, and its queries for the kernel for many rows and for that for few:
/// enough to fill a part of a GPU, with tails in rows and keys.
const HEADS: u32 = 8;
const HEAD_DIM: u32 = 64;
const KEYS: u32 = 1020;
const MANY_QUERIES: u32 = 500;
const FEW_QUERIES: u32 = 13;

/// Calls of one timing, and timings, of which the shortest counts.
const CALLS: u32 = 4;
const TIMINGS: usize = 5;

/// Normalised mean square difference of two right kernels with f16 results.
const TOLERANCE: f64 = 1e-5;

/// `Ok` where kernels may use cooperative matrices, and otherwise why not.
pub(super) async fn verdict(gpu: &Gpu) -> Result<(), String> {
    if let Some(verdict) = gpu.matrices_verdict().get() {
        return verdict.clone();
    }
    let mut verdict = Ok(());
    for queries in [MANY_QUERIES, FEW_QUERIES] {
        if verdict.is_ok() {
            verdict = match compare(gpu, queries).await {
                Ok(verdict) => verdict,
                Err(error) => Err(format!("the trial of it failed: {error}")),
            };
        }
    }
    gpu.matrices_verdict().get_or_init(|| verdict).clone()
}

async fn compare(gpu: &Gpu, queries: u32) -> Result<Result<(), String>, AttentionError> {
    let mut problem = AttentionProblem::new(HEADS, HEADS / 2, HEAD_DIM, queries, KEYS);
    problem.mask = Mask::Causal;
    for tensor in [
        &mut problem.query,
        &mut problem.key,
        &mut problem.value,
        &mut problem.output,
    ] {
        tensor.element = Element::F16;
    }
    let portable = Gpu::with_capabilities(
        gpu.device(),
        gpu.queue(),
        Capabilities {
            cooperative_matrices: false,
            ..gpu.capabilities().clone()
        },
    );
    let with = gpu.plan_attention(&problem)?.compile().await?;
    let without = portable.plan_attention(&problem)?.compile().await?;
    let (got, time) = run(gpu, &problem, &with).await?;
    let (expected, portable_time) = run(&portable, &problem, &without).await?;
    let (mut difference, mut size) = (0.0, 0.0);
    for (got, expected) in got.iter().zip(&expected) {
        difference += (got.to_f64() - expected.to_f64()).powi(2);
        size += expected.to_f64().powi(2);
    }
    let error = difference / size;
    // Not `error > TOLERANCE`: that is false for NaN.
    if error.is_nan() || error > TOLERANCE {
        return Ok(Err(format!(
            "a trial with it gave wrong results on this device (error {error:.1e})"
        )));
    }
    // Few rows wait for memory and for the CPU: which of two is faster there is not to be seen in one trial.
    if queries == MANY_QUERIES && time > portable_time {
        return Ok(Err(format!(
            "in a trial it took {time:.1?} on this device and the portable kernel {portable_time:.1?}"
        )));
    }
    Ok(Ok(()))
}

/// Output and time of the trial.
async fn run(
    gpu: &Gpu,
    problem: &AttentionProblem,
    prepared: &PreparedAttention,
) -> Result<(Vec<half::f16>, Duration), AttentionError> {
    let tensor = |seed: u32, elements: u32| {
        let mut state = seed;
        let values: Vec<half::f16> = (0..elements)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                half::f16::from_f32((state >> 8) as f32 / 8_388_608.0 - 1.0)
            })
            .collect();
        gpu.storage_with("trial", &values)
    };
    let queries = problem.max_queries;
    let query = tensor(1, queries * HEADS * HEAD_DIM)?;
    let key = tensor(2, KEYS * problem.kv_heads * HEAD_DIM)?;
    let value = tensor(3, KEYS * problem.kv_heads * HEAD_DIM)?;
    let bytes = u64::from(queries * HEADS * HEAD_DIM) * 2;
    let output = gpu.storage("trial output", bytes)?;
    let lengths = lengths(&[(queries, KEYS)]);
    let lengths = gpu.storage_with("trial lengths", lengths.as_flattened())?;
    let workspace = prepared.workspace()?;
    let attention = prepared.bind(
        &workspace,
        &AttentionIo {
            query: BufferView::whole(&query),
            key: BufferView::whole(&key),
            value: BufferView::whole(&value),
            output: BufferView::whole(&output),
            lse: None,
            lengths: BufferView::whole(&lengths),
            bias: None,
            tree: None,
            pages: None,
        },
    )?;
    let mut best = Duration::MAX;
    for _ in 0..TIMINGS {
        let start = Instant::now();
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for _ in 0..CALLS {
                attention.encode(&mut pass, queries, KEYS);
            }
        }
        gpu.queue().submit([encoder.finish()]);
        gpu.device()
            .poll(wgpu::PollType::wait_indefinitely())
            .map_err(|error| GpuError::Device {
                message: error.to_string(),
            })?;
        best = best.min(start.elapsed());
    }
    Ok((gpu.read_buffer(&output).await?, best))
}
