//! Tile shapes: how many rows and keys a workgroup takes at a time, for each family of adapters.
//!
//! A shape decides speed, never what is computed; the one exception, the order in which a row adds
//! its keys, is why the decode kernel's spans are the same on every adapter.

use super::AttentionProblem;
use crate::gpu::{AdapterClass, Capabilities};

/// How the invocations of a decode workgroup see each other's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// By broadcast inside one subgroup, which is the whole workgroup.
    Subgroup,
    /// Through workgroup memory.
    Workgroup,
}

/// Shape of the kernel for few rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DecodeTile {
    /// Invocations, and keys of a tile.
    pub lanes: u32,
    /// How they exchange numbers.
    pub exchange: Exchange,
}

impl DecodeTile {
    /// The shapes in order of preference, each with the reason why it is not for this device.
    pub fn candidates(capabilities: &Capabilities) -> Vec<(Self, Option<&'static str>)> {
        let lanes = capabilities.spread_width().unwrap_or(8);
        vec![
            (
                Self {
                    lanes,
                    exchange: Exchange::Subgroup,
                },
                subgroup_refusal(capabilities),
            ),
            (
                Self {
                    lanes: 32,
                    exchange: Exchange::Workgroup,
                },
                None,
            ),
        ]
    }
}

/// Shape of the kernel for many rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PrefillTile {
    /// `prefill.wgsl`: rows and keys staged in workgroup memory.
    Workgroup {
        /// Packed rows of a workgroup.
        rows: u32,
        /// Keys of a tile.
        keys: u32,
        /// Invocations along keys and along rows.
        threads: [u32; 2],
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
        vec![
            (
                Self::Lanes {
                    lanes: capabilities.spread_width().unwrap_or(8),
                    rows: lane_rows,
                },
                subgroup_refusal(capabilities),
            ),
            // 8 x 16 invocations with 2 rows x 4 keys each: a chunk of the head is as wide as a
            // row of invocations, and all of it takes 13.4 KiB.
            (
                Self::Workgroup {
                    rows: 32,
                    keys: 32,
                    threads: [8, 16],
                },
                software,
            ),
        ]
    }

    /// Packed rows of a workgroup.
    pub fn block_rows(self) -> u32 {
        match self {
            Self::Workgroup { rows, .. } => rows,
            Self::Lanes { lanes, rows } => lanes * rows,
        }
    }
}

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
