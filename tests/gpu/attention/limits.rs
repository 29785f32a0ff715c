//! Problems at and past the limits of a device: refused by type, or cut to fit.

use sunfleck::{
    attention::AttentionError,
    gpu::{Capabilities, Gpu, GpuError, Limit},
};

use crate::adapters::TestGpu;

use super::*;

#[test]
fn a_workspace_of_another_plan_is_refused_where_it_is_too_small() {
    on_every_adapter(|gpu| {
        let prepare = |queries, keys| {
            let problem = AttentionProblem::new(2, 1, 32, queries, keys);
            pollster::block_on(gpu.gpu.plan_attention(&problem).unwrap().prepare()).unwrap()
        };
        let (small, large) = (prepare(1, 256), prepare(8, 4096));
        let workspace = small.workspace().unwrap();
        let buffer = gpu.gpu.storage("any", 8 * 4096 * 4 * 64).unwrap();
        let output = gpu.gpu.storage("output", 8 * 2 * 32 * 4).unwrap();
        let io = AttentionIo {
            query: BufferView::whole(&buffer),
            key: BufferView::whole(&buffer),
            value: BufferView::whole(&buffer),
            output: BufferView::whole(&output),
            lse: None,
            lengths: BufferView::whole(&buffer),
            tree: None,
            pages: None,
            bias: None,
        };
        let error = large.bind(&workspace, &io).unwrap_err();
        assert!(
            matches!(error, AttentionError::ViewTooSmall { name: "workspace", needed, given }
                if needed == large.plan().workspace_bytes() && given < needed),
            "{error}"
        );
        large.bind(&large.workspace().unwrap(), &io).unwrap();
    });
}

#[test]
fn more_queries_than_workgroups_along_a_dimension_take_turns() {
    on_every_adapter(|gpu| {
        // As if the device had 16 workgroups a dimension: 100 queries of 2 heads need turns.
        let mut capabilities: Capabilities = gpu.gpu.capabilities().clone();
        capabilities.limits.max_compute_workgroups_per_dimension = 16;
        let limited = TestGpu {
            name: gpu.name.clone(),
            gpu: Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), capabilities),
        };
        let mut many = case(2, 1, 32, 100, 100);
        check(&limited, &many, 76); // by the prefill kernel, where there is one
        many.problem.invariant = true;
        check(&limited, &many, 77);
        // Too many blocks of rows for the prefill kernel.
        let long = AttentionProblem::new(2, 1, 32, 16 * 64 + 1, 2000);
        let plan = limited.gpu.plan_attention(&long).unwrap().explain();
        assert!(!plan.contains("\nattention/prefill"), "{plan}");
    });
}

#[test]
fn spans_and_sequences_past_the_workgroup_limit_are_a_typed_error() {
    on_every_adapter(|gpu| {
        let most = gpu
            .gpu
            .capabilities()
            .limits
            .max_compute_workgroups_per_dimension;
        let long = AttentionProblem::new(1, 1, 4, 1, (most + 1) * 256);
        let mut batch = AttentionProblem::new(1, 1, 4, 1, 1);
        batch.batch = most + 1;
        for problem in [long, batch] {
            let error = gpu.gpu.plan_attention(&problem).unwrap_err();
            assert!(
                matches!(
                    error,
                    AttentionError::Gpu(GpuError::LimitExceeded {
                        limit: Limit::Workgroups,
                        ..
                    })
                ),
                "{error}"
            );
        }
    });
}

#[test]
fn an_output_whose_rows_overlap_is_refused() {
    on_every_adapter(|gpu| {
        let base = || AttentionProblem::new(4, 2, 32, 8, 64);
        for change in [
            (|p| p.output.token_stride = 0) as fn(&mut AttentionProblem),
            |p| p.output.head_stride = 28,
            |p| p.output.token_stride = 64,
        ] {
            let mut problem = base();
            change(&mut problem);
            let error = gpu.gpu.plan_attention(&problem).unwrap_err();
            assert!(
                matches!(error, AttentionError::Overlap { name: "output" }),
                "{error}"
            );
        }
        // A stride along an axis of one is not used.
        let mut one = base();
        one.output.batch_stride = 0;
        gpu.gpu.plan_attention(&one).unwrap();
    });
}

#[test]
fn a_tree_blob_too_large_to_address_is_refused() {
    on_every_adapter(|gpu| {
        let mut problem = AttentionProblem::new(4, 2, 32, 8, 64);
        problem.mask = Mask::Tree {
            max_nodes: u32::MAX,
        };
        let error = gpu.gpu.plan_attention(&problem).unwrap_err();
        assert!(
            matches!(error, AttentionError::TooLarge { name: "tree", .. }),
            "{error}"
        );
    });
}

#[test]
fn unrolled_kernels_give_the_same_as_loops() {
    on_every_adapter(|gpu| {
        // SwiftShader takes minutes to compile one.
        if !gpu.name.contains("hardware") || gpu.name.contains("SwiftShader") {
            return;
        }
        let mut capabilities = gpu.gpu.capabilities().clone();
        capabilities.unrolled_shaders = true;
        let unrolled = TestGpu {
            name: format!("{}, unrolled", gpu.name),
            gpu: Gpu::with_capabilities(gpu.gpu.device(), gpu.gpu.queue(), capabilities),
        };
        check(&unrolled, &case(3, 1, 80, 40, 90), 78);
    });
}
