//! A problem turned into kernels.

use std::fmt::Write as _;

use super::{
    AttentionError, AttentionProblem, Pages, PreparedAttention,
    kernels::{self, Extra, SPAN},
    probe,
    tile::{DecodeTile, PrefillTile},
};
use crate::gpu::{Capabilities, Gpu, GpuError, Kernel, Limit, check_limit};

/// A planned problem: kernels chosen, limits checked, nothing compiled yet.
///
/// # Example
/// [`explain`](Self::explain) puts the plan into words, for logs and for questions of speed:
///
/// ```
/// # use sunfleck::{attention::AttentionProblem, gpu::Gpu, wgpu};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// # let instance = wgpu::Instance::default();
/// # let adapter = instance.request_adapter(&Default::default()).await?;
/// # let (device, queue) = adapter.request_device(&Default::default()).await?;
/// # let gpu = Gpu::new(&device, &queue);
/// let plan = gpu.plan_attention(&AttentionProblem::new(32, 8, 128, 16, 4096))?;
/// println!("{}", plan.explain());
/// assert!(plan.explain().contains("workspace: 4325376 bytes"));
/// # Ok(())
/// # }
/// # pollster::block_on(example()).unwrap();
/// ```
/// On a GPU it prints lines such as these:
///
/// ```text
/// attention/decode_span/f32-f32-f32/d128/causal/r4: up to 4 packed rows a workgroup, ...
/// attention/decode_span/f32-f32-f32/d128/causal/r8: up to 8 packed rows a workgroup, ...
/// attention/merge/v128/f32: joins up to 16 spans of 256 keys
/// not attention/prefill: there are too few rows
/// workspace: 4325376 bytes
/// ```
#[derive(Clone, Debug)]
pub struct AttentionPlan {
    gpu: Gpu,
    problem: AttentionProblem,
    tile: DecodeTile,
    decode: Vec<(u32, Kernel)>, // packed rows of a block, smallest first
    merge: Kernel,
    prefill: Option<(PrefillTile, Kernel)>, // for more than `few_rows` packed rows
    refusals: Vec<Refusal>,
}

/// A kernel that was considered and not taken.
#[derive(Clone, Debug)]
struct Refusal {
    kernel: String,
    reason: String,
}

/// Why a problem gets no prefill kernel whatever the device, if so.
fn prefill_refusal(problem: &AttentionProblem, few_rows: u32) -> Option<&'static str> {
    let extras = kernels::prefill_extras(problem);
    if problem.invariant {
        return Some("it adds in another order than the kernel for few rows (invariant)");
    }
    if problem.max_queries.saturating_mul(problem.group()) <= few_rows {
        return Some("there are too few rows");
    }
    let buffers = extras.iter().filter(|extra| **extra != Extra::Heads);
    if buffers.count() > 2 {
        return Some(
            "three of pages, tree, bias and LSE take an eighth storage buffer, which Metal needs",
        );
    }
    None
}

/// The first of the candidates that neither the device nor its limits refuse.
///
/// # Errors
/// The limit that refused the last candidate.
fn choose<T: Copy>(
    candidates: Vec<(T, Option<&'static str>)>,
    kernel_of: impl Fn(T) -> Kernel,
    check: impl Fn(T, &Kernel) -> Result<(), GpuError>,
    refusals: &mut Vec<Refusal>,
) -> Result<Option<T>, GpuError> {
    let mut limit = None;
    for (tile, refusal) in candidates {
        let kernel = kernel_of(tile);
        let reason = match refusal {
            Some(reason) => reason.to_owned(),
            None => match check(tile, &kernel) {
                Ok(()) => return Ok(Some(tile)),
                Err(error) => {
                    let reason = error.to_string();
                    limit = Some(error);
                    reason
                }
            },
        };
        refusals.push(Refusal {
            kernel: kernel.name,
            reason,
        });
    }
    limit.map_or(Ok(None), Err)
}

/// The kernels for few rows: every problem has them.
fn choose_decode(
    capabilities: &Capabilities,
    problem: &AttentionProblem,
    refusals: &mut Vec<Refusal>,
) -> Result<(DecodeTile, Vec<(u32, Kernel)>), AttentionError> {
    let most_rows = |tile: DecodeTile| tile.blocks(problem).last().copied().unwrap_or(1);
    let tile = choose(
        DecodeTile::candidates(capabilities, problem),
        |tile| kernels::decode(tile, problem, most_rows(tile)),
        |_, kernel| kernel.check(capabilities),
        refusals,
    )?
    .unwrap_or(DecodeTile::Span); // the last candidate, which nothing but a limit refuses
    let blocks = tile.blocks(problem).into_iter();
    let kernels = blocks.map(|rows| (rows, kernels::decode(tile, problem, rows)));
    Ok((tile, kernels.collect()))
}

/// The prefill kernel, where there is one: the kernel for few rows computes every problem too.
fn choose_prefill(
    capabilities: &Capabilities,
    problem: &AttentionProblem,
    refusals: &mut Vec<Refusal>,
) -> Option<(PrefillTile, Kernel)> {
    let rows = u64::from(problem.max_queries) * u64::from(problem.group());
    let chosen = choose(
        PrefillTile::candidates(capabilities, problem),
        |tile| kernels::prefill(tile, problem),
        |tile, kernel| {
            kernel.check(capabilities)?;
            let blocks = rows.div_ceil(u64::from(tile.block_rows()));
            check_limit(
                &capabilities.limits,
                &kernel.name,
                Limit::Workgroups,
                blocks,
            )
        },
        refusals,
    );
    let tile = chosen.unwrap_or_default()?;
    Some((tile, kernels::prefill(tile, problem)))
}

impl Gpu {
    /// Chooses the kernels for `problem` and checks them against the device's limits.
    ///
    /// Nothing is compiled or allocated: asking what a problem would need is cheap.
    ///
    /// # Errors
    /// A variant of [`AttentionError`] for every problem that no kernel computes, and
    /// [`GpuError::LimitExceeded`] through
    /// [`AttentionError::Gpu`] where the device's limits are too low.
    ///
    /// # Example
    /// ```
    /// use sunfleck::attention::{AttentionError, AttentionProblem};
    /// # use sunfleck::{gpu::Gpu, wgpu};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// # let instance = wgpu::Instance::default();
    /// # let adapter = instance.request_adapter(&Default::default()).await?;
    /// # let (device, queue) = adapter.request_device(&Default::default()).await?;
    /// let gpu = Gpu::new(&device, &queue);
    /// let mut problem = AttentionProblem::new(32, 8, 128, 1, 4096);
    /// let plan = gpu.plan_attention(&problem)?;
    /// // One query of 32 heads over 16 spans of keys: a state each of 128 + 4 f32s.
    /// assert_eq!(plan.workspace_bytes(), 32 * 16 * (128 + 4) * 4);
    ///
    /// problem.head_dim = 66;
    /// let error = gpu.plan_attention(&problem).unwrap_err();
    /// assert!(matches!(error, AttentionError::HeadDim { dim: 66, .. }));
    /// assert!(error.to_string().contains("must be a multiple of 4"));
    /// # Ok(())
    /// # }
    /// # pollster::block_on(example()).unwrap();
    /// ```
    pub fn plan_attention(
        &self,
        problem: &AttentionProblem,
    ) -> Result<AttentionPlan, AttentionError> {
        problem.check()?;
        let capabilities = self.capabilities();
        let mut refusals = Vec::new();
        let (tile, decode) = choose_decode(capabilities, problem, &mut refusals)?;
        let merge = kernels::merge(problem);
        merge.check(capabilities)?;
        let prefill = match prefill_refusal(problem, tile.few_rows()) {
            None => choose_prefill(capabilities, problem, &mut refusals),
            Some(reason) => {
                refusals.push(Refusal {
                    kernel: "attention/prefill".to_owned(),
                    reason: reason.to_owned(),
                });
                None
            }
        };
        let plan = AttentionPlan {
            gpu: self.clone(),
            problem: problem.clone(),
            tile,
            decode,
            merge,
            prefill,
            refusals,
        };
        for (what, groups) in [
            ("the spans of keys", u64::from(plan.max_spans())),
            (
                "the KV heads of all sequences",
                u64::from(problem.batch) * u64::from(problem.kv_heads),
            ),
            ("the query heads", u64::from(problem.query_heads)),
        ] {
            check_limit(&capabilities.limits, what, Limit::Workgroups, groups)?;
        }
        Ok(plan)
    }
}

impl AttentionPlan {
    pub(super) fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The problem that was planned.
    pub fn problem(&self) -> &AttentionProblem {
        &self.problem
    }

    /// The kernels that [`prepare`](Self::prepare) compiles: those for few rows, the one that joins spans of keys, and
    /// the one for many rows where there is one.
    pub fn kernels(&self) -> impl Iterator<Item = &Kernel> {
        let decode = self.decode.iter().map(|(_, kernel)| kernel);
        let prefill = self.prefill.iter().map(|(_, kernel)| kernel);
        decode.chain([&self.merge]).chain(prefill)
    }

    /// The plan for the pages from another one on, or of other sequences, which no kernel depends on; `left_out`
    /// fewer keys are to be expected.
    pub(super) fn with_pages(&self, pages: Pages, left_out: u32) -> Self {
        let problem = AttentionProblem {
            pages: Some(pages),
            max_keys: self.problem.max_keys - left_out,
            ..self.problem.clone()
        };
        self.with_problem(&problem)
    }

    /// The plan's kernels for a problem that has the same.
    pub(super) fn with_problem(&self, problem: &AttentionProblem) -> Self {
        Self {
            problem: problem.clone(),
            ..self.clone()
        }
    }

    pub(super) fn max_spans(&self) -> u32 {
        self.problem.max_keys.div_ceil(SPAN)
    }

    /// Packed rows of a KV head above which the prefill kernel takes over, where there is one.
    pub(super) fn few_rows(&self) -> u32 {
        self.tile.few_rows()
    }

    /// Queries of a sequence that come to the kernels for few rows at most, where there is a prefill kernel.
    pub(super) fn few_queries(&self) -> u32 {
        (self.few_rows() / self.problem.group().max(1)).clamp(1, self.problem.max_queries)
    }

    pub(super) fn prefill_rows(&self) -> u32 {
        self.prefill
            .as_ref()
            .map_or(1, |(tile, _)| tile.block_rows())
    }

    /// Queries of a sequence whose partial states the workspace holds at a time.
    pub(super) fn chunk(&self) -> u32 {
        let problem = &self.problem;
        let states = (u64::from(problem.batch) * u64::from(problem.query_heads))
            .saturating_mul(u64::from(self.max_spans()));
        let query_bytes = states.saturating_mul((u64::from(problem.value_dim) + 4) * 4);
        let fitting = self.tile.most_workspace() / query_bytes.max(1);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX).max(1);
        let most = match self.prefill {
            Some(_) => self.few_queries(),
            None => problem.max_queries,
        };
        // The merge has a workgroup along y for each of them, decoding one along x for a block of
        // rows.
        let per_dimension = self
            .gpu
            .capabilities()
            .limits
            .max_compute_workgroups_per_dimension;
        let workgroups = per_dimension / problem.group().max(1);
        fitting
            .min(most.clamp(1, problem.max_queries))
            .min(workgroups.max(1))
    }

    fn partial_rows(&self) -> u64 {
        let p = &self.problem;
        // Saturating: a plan that no memory holds is refused when its workspace is made.
        (u64::from(p.batch) * u64::from(self.chunk()))
            .saturating_mul(u64::from(p.query_heads))
            .saturating_mul(u64::from(self.max_spans()))
    }

    /// Bytes of workspace: the partial states of the spans of some queries, which take turns in
    /// it. Above 16 MiB (64 on cooperative matrices) it does not grow with the queries; one query needs one state of
    /// `value_dim + 4` f32s a head for every 256 keys.
    pub fn workspace_bytes(&self) -> u64 {
        self.partial_rows()
            .saturating_mul((u64::from(self.problem.value_dim) + 4) * 4)
    }

    /// The kernels of the plan and what each is for, those that were considered and not taken
    /// and why, and the workspace, in words.
    pub fn explain(&self) -> String {
        let mut text = String::new();
        for (rows, kernel) in &self.decode {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{}: up to {rows} packed rows a workgroup, {} invocations, {} bytes of workgroup \
                 memory",
                kernel.name, kernel.workgroup_size[0], kernel.workgroup_bytes,
            );
        }
        let _ = writeln!(
            text,
            "{}: joins up to {} spans of {SPAN} keys",
            self.merge.name,
            self.max_spans()
        );
        if let Some((_, kernel)) = &self.prefill {
            let _ = writeln!(
                text,
                "{}: more than {} packed rows, {} invocations, {} bytes of workgroup memory",
                kernel.name,
                self.few_rows(),
                kernel.workgroup_size.iter().product::<u32>(),
                kernel.workgroup_bytes,
            );
        }
        for Refusal { kernel, reason } in &self.refusals {
            let _ = writeln!(text, "not {kernel}: {reason}");
        }
        let _ = writeln!(text, "workspace: {} bytes", self.workspace_bytes());
        text
    }

    /// Compiles the kernels; the second call for the same variants finds them compiled.
    ///
    /// The first plan of a device that would use cooperative matrices also tries them on a small problem, which
    /// submits work and waits for it (some milliseconds): where they are wrong or slow, the portable kernels take over.
    ///
    /// # Errors
    /// [`GpuError::Compile`](crate::gpu::GpuError::Compile) naming the variant.
    pub async fn prepare(&self) -> Result<PreparedAttention, AttentionError> {
        let matrices = matches!(self.tile, DecodeTile::Cooperative { .. })
            || matches!(self.prefill, Some((PrefillTile::Cooperative { .. }, _)));
        if !matrices {
            return self.compile().await;
        }
        match probe::verdict(&self.gpu).await {
            Ok(()) => self.compile().await,
            Err(reason) => self.without_matrices(&reason)?.compile().await,
        }
    }

    /// The plan with other kernels in place of those on cooperative matrices.
    fn without_matrices(&self, reason: &str) -> Result<Self, AttentionError> {
        let portable = Gpu::with_capabilities(
            self.gpu.device(),
            self.gpu.queue(),
            Capabilities {
                cooperative_matrices: false,
                ..self.gpu.capabilities().clone()
            },
        );
        let mut plan = portable.plan_attention(&self.problem)?;
        plan.gpu = self.gpu.clone();
        let decode = self.decode.iter().map(|(_, kernel)| kernel);
        let kernels = decode.chain(self.prefill.iter().map(|(_, kernel)| kernel));
        plan.refusals = kernels
            .filter(|kernel| kernel.uses_matrices())
            .map(|kernel| Refusal {
                kernel: kernel.name.clone(),
                reason: reason.to_owned(),
            })
            .chain(plan.refusals)
            .collect();
        Ok(plan)
    }

    /// Compiles the kernels as they are.
    pub(super) async fn compile(&self) -> Result<PreparedAttention, AttentionError> {
        let together = self.gpu.together();
        let gpu = &together.gpu;
        // What takes longest comes first.
        let prefill = match &self.prefill {
            Some((_, kernel)) => Some(gpu.pipeline(kernel).await?),
            None => None,
        };
        let mut decode = Vec::new();
        for (rows, kernel) in &self.decode {
            decode.push((*rows, gpu.pipeline(kernel).await?));
        }
        let merge = gpu.pipeline(&self.merge).await?;
        together.end().await?;
        Ok(PreparedAttention {
            plan: self.clone(),
            prefill,
            decode,
            merge,
        })
    }
}
