//! How the children of a tree are spread over dispatches.
//!
//! lavapipe ends the loops of an invocation, all of them, once they took 65,535 turns together. A sum over the
//! vocabulary for every child would come there with large trees; so a dispatch tests only as many children as
//! stay below.

use super::{VerifyProblem, kernels::BLOCK};

/// Turns that the loops of an invocation may take.
pub(super) const MOST_TURNS: u32 = 50_000;

/// The children that each dispatch with `lanes` invocations tests: the first, and one past the last. Node 0 is no
/// child.
pub(super) fn windows(problem: &VerifyProblem, lanes: u32) -> Vec<(u32, u32)> {
    let nodes = problem.max_nodes;
    let width = match problem.draft_rows {
        0 => nodes, // no sums
        _ => {
            // A block: itself, its words, the nodes, and turns of four tokens; then the sums over invocations,
            // and the siblings before. See shaders/verify/masses.wgsl.
            let over_nodes = nodes.div_ceil(lanes);
            let block = 1 + (BLOCK / 32).div_ceil(lanes) + over_nodes + BLOCK / 4 / lanes;
            let child = problem.vocabulary.div_ceil(BLOCK) * block + 70 + 2 * over_nodes;
            (MOST_TURNS / child).max(1)
        }
    };
    let first = (1..nodes.max(2)).step_by(width.max(1) as usize);
    first
        .map(|first| (first, (first + width).min(nodes)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(nodes: u32, vocabulary: u32, draft_rows: u32) -> Vec<(u32, u32)> {
        let mut problem = VerifyProblem::new(1, nodes, vocabulary);
        problem.draft_rows = draft_rows;
        windows(&problem, 256)
    }

    #[test]
    fn every_child_is_in_one_window() {
        for nodes in [2, 64, 65, 4096] {
            for vocabulary in [1, 49_152, 262_144] {
                let windows = of(nodes, vocabulary, 1);
                let children: Vec<u32> = windows.iter().flat_map(|&(a, b)| a..b).collect();
                assert_eq!(children, (1..nodes).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn trees_of_usual_sizes_take_one_dispatch_and_a_root_alone_one_too() {
        assert_eq!(of(1, 49_152, 1).len(), 1);
        assert_eq!(of(64, 151_936, 8).len(), 1);
        assert_eq!(of(4096, 262_144, 0), [(1, 4096)]);
        assert!(of(4096, 262_144, 1).len() > 50);
        let mut problem = VerifyProblem::new(1, 64, 262_144);
        problem.draft_rows = 8;
        assert_eq!(windows(&problem, 32).len(), 4);
    }
}
