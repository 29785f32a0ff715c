//! Tile shapes: how many rows and keys a workgroup takes at a time, for each family of adapters.
//!
//! A shape decides speed, never what is computed; the one exception, the order in which a row adds
//! its keys, is why the decode kernel's spans are the same on every adapter.

use super::{AttentionProblem, Element, TensorLayout};
use crate::gpu::{AdapterClass, Capabilities};

/// Shape of the kernel for few rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DecodeTile {
    /// `decode.wgsl`: one subgroup a workgroup, a key of the tile in each lane.
    Subgroup {
        /// Lanes of the subgroup.
        lanes: u32,
    },
    /// `decode_span.wgsl`: all keys of a span at once.
    Span,
    /// `decode_cooperative.wgsl`: scores and sums in cooperative matrices, 16 packed rows each.
    Cooperative {
        /// Keys of a tile.
        keys: u32,
    },
}

impl DecodeTile {
    /// The shapes in order of preference, each with the reason why it is not for this device.
    pub fn candidates(
        capabilities: &Capabilities,
        problem: &AttentionProblem,
    ) -> Vec<(Self, Option<&'static str>)> {
        let lanes = capabilities.spread_width().unwrap_or(8);
        vec![
            (
                Self::Cooperative { keys: 64 },
                cooperative_refusal(capabilities, problem),
            ),
            (Self::Subgroup { lanes }, subgroup_refusal(capabilities)),
            (Self::Span, None),
        ]
    }

    /// Packed rows of the blocks that a problem needs, smallest first. Every size does the same arithmetic for a row.
    pub fn blocks(self, problem: &AttentionProblem) -> Vec<u32> {
        let rows = problem.max_queries.saturating_mul(problem.group());
        match self {
            Self::Cooperative { .. } if rows <= 16 => vec![16],
            Self::Cooperative { .. } => vec![16, 32],
            // Decoding has `group` rows a KV head; verification more.
            _ if problem.group() >= MAX_ROWS => vec![MAX_ROWS],
            _ if problem.max_queries > 1 => vec![problem.group(), MAX_ROWS],
            _ => vec![problem.group()],
        }
    }

    /// Packed rows of a KV head above which the prefill kernel takes over, where the problem allows it.
    pub fn few_rows(self) -> u32 {
        match self {
            Self::Cooperative { .. } => 256,
            _ => 64,
        }
    }

    /// Workspace above which queries take turns instead of having room each.
    pub fn most_workspace(self) -> u64 {
        match self {
            Self::Cooperative { .. } => 64 << 20,
            _ => 16 << 20,
        }
    }
}

/// Most packed rows of a block of the kernels without matrices: more would not fit the registers.
const MAX_ROWS: u32 = 8;

/// Shape of the kernel for many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrefillTile {
    /// `prefill.wgsl`: rows and keys staged in workgroup memory.
    Workgroup {
        /// Packed rows of a workgroup.
        rows: u32,
        /// Keys of a tile.
        keys: u32,
        /// Quads of the head staged at a time.
        chunk: u32,
        /// Invocations along keys and along rows.
        threads: [u32; 2],
    },
    /// `prefill_cooperative.wgsl`: scores and sums in cooperative matrices.
    Cooperative {
        /// Subgroups of a workgroup, with 16 packed rows each.
        subgroups: u32,
        /// Keys of a tile.
        keys: u32,
    },
    /// `prefill_lanes.wgsl`: rows in the lanes of one subgroup.
    Lanes {
        /// Lanes of the subgroup.
        lanes: u32,
        /// Packed rows of a lane.
        rows: u32,
    },
}

impl PrefillTile {
    /// The shapes in order of preference, each with the reason why it is not for this device.
    pub fn candidates(
        capabilities: &Capabilities,
        problem: &AttentionProblem,
    ) -> Vec<(Self, Option<&'static str>)> {
        // Queries and output sums of a workgroup should stay in the first cache.
        let lane_rows = match problem.head_dim.max(problem.value_dim) {
            ..=128 => 4,
            _ => 2,
        };
        // A software adapter pays for every lane of a load from workgroup memory and switches
        // coroutines at every barrier: on lavapipe a 128-token prompt of SmolLM2-135M took 1.55 s
        // with `prefill.wgsl` and 0.61 s with the kernel for few rows.
        let software = (capabilities.class == AdapterClass::Software)
            .then_some("on a software adapter the kernel for few rows is faster");
        // A tile never straddles two pages.
        let page = problem.pages.map_or(u32::MAX, |pages| pages.page_tokens);
        vec![
            // On an H200, at 32 heads, d 128, 4096 x 4096: 143 TFLOP/s. 139 with 32 rows a
            // subgroup and 4 subgroups, whose registers spill; 139 with 16 subgroups and 16 keys;
            // 117 with 64 keys and 4 subgroups.
            (
                Self::Cooperative {
                    subgroups: 8,
                    keys: page.min(32),
                },
                cooperative_refusal(capabilities, problem),
            ),
            (
                Self::Lanes {
                    lanes: capabilities.spread_width().unwrap_or(8),
                    rows: lane_rows,
                },
                // lavapipe ends an invocation's loops after 65,535 turns in all, a tile of 4 or 8 keys being one
                // and having some of its own.
                subgroup_refusal(capabilities).or((problem.max_keys > MOST_LANE_KEYS)
                    .then_some("lavapipe ends the loops of so many keys too early")),
            ),
            // 16 x 16 invocations with 4 rows x 4 keys each: 128 registers at d 128 and 16 KiB, so
            // two workgroups fit a multiprocessor of an H200. There, at 32 heads, d 128, 4096 x
            // 4096: 28.4 TFLOP/s; 26.9 with 8 rows an invocation and 248 registers; 4.3 with
            // 8 x 16 invocations of 2 rows and no loads ahead.
            (
                match page {
                    0..32 => Self::Workgroup {
                        rows: 32,
                        keys: 16,
                        chunk: 4,
                        threads: [8, 8],
                    },
                    32..64 => Self::Workgroup {
                        rows: 64,
                        keys: 32,
                        chunk: 4,
                        threads: [8, 16],
                    },
                    _ => Self::Workgroup {
                        rows: 64,
                        keys: 64,
                        chunk: 4,
                        threads: [16, 16],
                    },
                },
                software,
            ),
        ]
    }

    /// Packed rows of a workgroup.
    pub fn block_rows(self) -> u32 {
        match self {
            Self::Workgroup { rows, .. } => rows,
            Self::Cooperative { subgroups, .. } => subgroups * 16,
            Self::Lanes { lanes, rows } => lanes * rows,
        }
    }
}

/// Why a problem can't run on cooperative matrices, if so.
fn cooperative_refusal(
    capabilities: &Capabilities,
    problem: &AttentionProblem,
) -> Option<&'static str> {
    let f16 = |layout: &TensorLayout| layout.element == Element::F16;
    if !capabilities.cooperative_matrices {
        return Some(
            "it needs cooperative matrices of 16 x 16 x 16, f16 with f32 sums: the features \
             EXPERIMENTAL_COOPERATIVE_MATRIX, SHADER_F16 and SUBGROUP, and \
             Capabilities::with_matrices_of",
        );
    }
    if ![&problem.query, &problem.key, &problem.value]
        .into_iter()
        .all(f16)
    {
        return Some("its queries, keys and values must be f16");
    }
    for dim in [problem.head_dim, problem.value_dim] {
        if !dim.is_multiple_of(16) || dim > 128 {
            return Some("its head sizes must be multiples of 16 up to 128");
        }
    }
    None
}

/// Most keys of a row of `prefill_lanes.wgsl`; 70,000 were seen to be right on lavapipe.
const MOST_LANE_KEYS: u32 = 1 << 16;

/// Why kernels that are one subgroup wide are not for this device, if so.
fn subgroup_refusal(capabilities: &Capabilities) -> Option<&'static str> {
    if capabilities.class != AdapterClass::Software {
        return Some("one subgroup a workgroup suits software adapters only");
    }
    if capabilities.spread_width().is_none() {
        return Some("it needs the feature SUBGROUP with subgroups of 4 or of 8 invocations");
    }
    None
}
