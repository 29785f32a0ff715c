//! Merging attention states over disjoint sets of keys.

use std::sync::Arc;

use wgpu::ComputePass;

use super::{AttentionError, Element, kernels};
use crate::{
    gpu::{Binding, BufferView, Gpu, Kernel, Limit, Pipeline, shader, shared_struct},
    ops::{Dispatch, spread},
};

const BINDINGS: &[Binding] = &[
    Binding::Uniform,
    Binding::Read,
    Binding::Read,
    Binding::Write,
    Binding::Write,
];

shared_struct! {
    /// Parameters shared with `shaders/attention/merge_states.wgsl`.
    pub(crate) struct MergeStatesParams {
        states: u32,
        rows: u32,
        groups_x: u32,
    }
}

/// Shape of the states to merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeStatesProblem {
    /// States, each over other keys.
    pub states: u32,
    /// Rows of a state: sequences x queries x query heads.
    pub rows: u32,
    /// Elements of a row: a multiple of 4, at most 256.
    pub value_dim: u32,
    /// Element type of the outputs, merged and unmerged.
    pub element: Element,
}

/// The buffers of a merge.
#[derive(Clone, Copy, Debug)]
pub struct MergeStatesIo<'a> {
    /// Outputs `[state, row, value_dim]`.
    pub outputs: BufferView<'a>,
    /// LSEs `[state, row]` of f32, natural logarithm; [`NO_KEY`](super::NO_KEY) or less for a row
    /// that saw no key, whose output is not read.
    pub lses: BufferView<'a>,
    /// Merged output `[row, value_dim]`, written.
    pub output: BufferView<'a>,
    /// Merged LSE `[row]` of f32, written.
    pub lse: BufferView<'a>,
}

pub(super) fn kernel(value_dim: u32, element: Element) -> Kernel {
    let name = format!("attention/merge_states/v{value_dim}/{}", element.name());
    Kernel::new(name, [32, 1, 1], MergeStatesParams::LAYOUT, BINDINGS)
        .constant("V_QUADS", value_dim / 4)
        .source(shader!("attention/merge_states.wgsl"))
        .source(kernels::value(element))
        .source(kernels::output(element))
}

/// A compiled merge.
#[derive(Clone, Debug)]
pub struct PreparedMergeStates {
    gpu: Gpu,
    problem: MergeStatesProblem,
    pipeline: Arc<Pipeline>,
}

/// A merge bound to its buffers, ready to be recorded (Ye et al. 2025, FlashInfer, call it the
/// composition of attention states).
///
/// # Example
/// Two states of one row. The second one's keys weigh three times as much as the first one's.
///
/// ```
/// use sunfleck::attention::{Element, MergeStatesIo, MergeStatesProblem};
/// # use sunfleck::{gpu::Gpu, wgpu};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// # let gpu = Gpu::new(&device, &queue);
/// let problem = MergeStatesProblem { states: 2, rows: 1, value_dim: 4, element: Element::F32 };
/// let merge = gpu.prepare_merge_states(&problem).await?;
/// let outputs = gpu.storage_with("outputs", &[[1.0f32; 4], [3.0; 4]])?; // [state, row, value_dim]
/// let lses = gpu.storage_with("lses", &[0.0f32, 3f32.ln()])?; // [state, row]
/// let output = gpu.storage("output", 4 * 4)?;
/// let lse = gpu.storage("lse", 4)?;
/// let call = merge.bind(&MergeStatesIo {
///     outputs: (&outputs).into(),
///     lses: (&lses).into(),
///     output: (&output).into(),
///     lse: (&lse).into(),
/// })?;
/// let mut encoder = device.create_command_encoder(&Default::default());
/// call.encode(&mut encoder.begin_compute_pass(&Default::default()));
/// queue.submit([encoder.finish()]);
///
/// let output: Vec<f32> = gpu.read_buffer(&output).await?;
/// let lse: Vec<f32> = gpu.read_buffer(&lse).await?;
/// assert!((output[0] - (0.25 * 1.0 + 0.75 * 3.0)).abs() < 1e-5);
/// assert!((lse[0] - 4f32.ln()).abs() < 1e-5);
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct MergeStates {
    dispatch: Dispatch,
    groups: [u32; 2],
}

impl Gpu {
    /// Checks and compiles a merge of attention states: `O = sum exp(LSE_i - LSE) O_i` with
    /// `LSE = ln(sum exp LSE_i)` (Milakov and Gimelshein, 2018), in ascending order of the states.
    ///
    /// # Errors
    /// [`AttentionError::Zero`], [`AttentionError::HeadDim`] and [`AttentionError::Quantised`] for what no kernel computes,
    /// [`AttentionError::Gpu`] where the device refuses it.
    ///
    /// # Example
    /// See [`MergeStates`].
    pub async fn prepare_merge_states(
        &self,
        problem: &MergeStatesProblem,
    ) -> Result<PreparedMergeStates, AttentionError> {
        for (name, value) in [("states", problem.states), ("rows", problem.rows)] {
            if value == 0 {
                return Err(AttentionError::Zero { name });
            }
        }
        if problem.element.is_quantised() {
            return Err(AttentionError::Quantised {
                name: "element",
                element: problem.element.name(),
            });
        }
        let dim = problem.value_dim;
        if dim == 0 || !dim.is_multiple_of(4) || dim > 256 {
            return Err(AttentionError::HeadDim {
                name: "value_dim",
                dim,
            });
        }
        let kernel = kernel(dim, problem.element);
        let limit = self
            .capabilities()
            .limits
            .max_compute_workgroups_per_dimension;
        let [_, y] = spread(problem.rows, limit);
        crate::gpu::check_limit(
            &self.capabilities().limits,
            &kernel.name,
            Limit::Workgroups,
            u64::from(y),
        )?;
        Ok(PreparedMergeStates {
            gpu: self.clone(),
            problem: *problem,
            pipeline: self.pipeline(&kernel).await?,
        })
    }
}

impl PreparedMergeStates {
    /// Binds buffers. The result records the merge any number of times.
    ///
    /// # Errors
    /// [`AttentionError::ViewTooSmall`], and through [`AttentionError::Gpu`] the errors of a
    /// misaligned or aliased view.
    pub fn bind(&self, io: &MergeStatesIo<'_>) -> Result<MergeStates, AttentionError> {
        let p = &self.problem;
        let rows = u64::from(p.rows);
        let states = u64::from(p.states);
        let row_bytes = u64::from(p.value_dim) * p.element.bits() / 8;
        for (name, view, needed) in [
            (
                "outputs",
                io.outputs,
                (states * rows).saturating_mul(row_bytes),
            ),
            ("lses", io.lses, (states * rows).saturating_mul(4)),
            ("output", io.output, rows * row_bytes),
            ("lse", io.lse, rows * 4),
        ] {
            if view.size < needed {
                return Err(AttentionError::ViewTooSmall {
                    name,
                    needed,
                    given: view.size,
                });
            }
        }
        let limit = self
            .gpu
            .capabilities()
            .limits
            .max_compute_workgroups_per_dimension;
        let groups = spread(p.rows, limit);
        let params = MergeStatesParams {
            states: p.states,
            rows: p.rows,
            groups_x: groups[0],
        };
        let uniform = self.gpu.uniform(&self.pipeline.name, &params);
        let arguments = self.gpu.bind(
            &self.pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("outputs", io.outputs),
                ("lses", io.lses),
                ("output", io.output),
                ("lse", io.lse),
            ],
        )?;
        Ok(MergeStates {
            dispatch: Dispatch::new(self.pipeline.clone(), arguments),
            groups,
        })
    }
}

impl MergeStates {
    /// Records the merge.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.dispatch
            .encode(pass, [self.groups[0], self.groups[1], 1]);
    }
}
