//! Wrong problems and arguments.

use super::*;

#[test]
fn every_wrong_problem_is_a_typed_error() {
    use sunfleck::attention::{AttentionError as E, RaggedTotals};
    on_every_adapter(|gpu| {
        let refused = |change: &dyn Fn(&mut AttentionProblem)| {
            let mut p = AttentionProblem::new(4, 2, 64, 8, 100);
            change(&mut p);
            gpu.gpu.plan_attention(&p).err()
        };
        assert!(refused(&|_| ()).is_none());
        assert!(matches!(
            refused(&|p| p.batch = 0),
            Some(E::Zero { name: "batch" })
        ));
        assert!(matches!(
            refused(&|p| p.kv_heads = 3),
            Some(E::HeadGroups { .. })
        ));
        assert!(matches!(
            refused(&|p| p.head_dim = 66),
            Some(E::HeadDim { dim: 66, .. })
        ));
        assert!(matches!(
            refused(&|p| p.value_dim = 260),
            Some(E::HeadDim { dim: 260, .. })
        ));
        assert!(matches!(
            refused(&|p| p.key.token_stride = 30),
            Some(E::Stride { .. })
        ));
        assert!(matches!(
            refused(&|p| {
                p.batch = u32::MAX;
                p.key.batch_stride = u32::MAX - 3;
            }),
            Some(E::TooLarge { .. })
        ));
        assert!(matches!(
            refused(&|p| p.scale = f32::NAN),
            Some(E::Scale { .. })
        ));
        for softcap in [0.0, -1.0, f32::NAN, f32::MAX] {
            assert!(matches!(
                refused(&|p| p.softcap = Some(softcap)),
                Some(E::Softcap { .. })
            ));
        }
        assert!(matches!(
            refused(&|p| p.scale = f32::MAX),
            Some(E::Scale { .. })
        ));
        assert!(matches!(
            refused(&|p| p.sinks = Some(vec![f32::MAX; 4])),
            Some(E::HeadList { .. })
        ));
        assert!(matches!(
            refused(&|p| p.pages = Some(Pages {
                page_tokens: 256,
                pool_pages: 4,
                table_stride: 1 << 25,
                first_page: 1 << 24,
                first_sequence: 0,
            })),
            Some(E::TooLarge { name: "pages", .. })
        ));
        assert!(matches!(
            refused(&|p| p.window = Some(0)),
            Some(E::Zero { name: "window" })
        ));
        assert!(matches!(
            refused(&|p| p.sinks = Some(vec![0.0; 3])),
            Some(E::HeadList {
                needed: 4,
                given: 3,
                ..
            })
        ));
        assert!(matches!(
            refused(&|p| p.mask = Mask::Tree { max_nodes: 7 }),
            Some(E::TreeStride { .. })
        ));
        let totals = RaggedTotals {
            queries: 7,
            keys: 100,
        };
        assert!(matches!(
            refused(&|p| p.ragged = Some(totals)),
            Some(E::RaggedTotals { .. })
        ));
    });
}

#[test]
fn every_wrong_argument_is_a_typed_error() {
    use sunfleck::{attention::AttentionError as E, gpu::GpuError as G};
    on_every_adapter(|gpu| {
        let p = AttentionProblem::new(2, 1, 64, 4, 64);
        let prepared = pollster::block_on(gpu.gpu.plan_attention(&p).unwrap().prepare()).unwrap();
        let workspace = prepared.workspace().unwrap();
        let buffer = gpu.gpu.storage("all", 1 << 20).unwrap();
        let other = gpu.gpu.storage("output", 1 << 20).unwrap();
        let view = |offset: u64| BufferView::range(&buffer, offset, 1 << 16);
        // Q, K and V may share a buffer; the output may not share it with what is read.
        let good = AttentionIo {
            query: view(0),
            key: view(1 << 16),
            value: view(2 << 16),
            output: BufferView::whole(&other),
            lse: None,
            lengths: view(3 << 16),
            tree: None,
            pages: None,
            bias: None,
        };
        assert!(prepared.bind(&workspace, &good).is_ok());
        let refused = |io: AttentionIo<'_>| prepared.bind(&workspace, &io).err();
        let small = BufferView::range(&other, 0, 16);
        assert!(matches!(
            refused(AttentionIo {
                output: small,
                ..good
            }),
            Some(E::ViewTooSmall { name: "output", .. })
        ));
        assert!(matches!(
            refused(AttentionIo {
                query: BufferView::range(&buffer, 4, 1 << 16),
                ..good
            }),
            Some(E::Gpu(G::View { .. }))
        ));
        assert!(matches!(
            refused(AttentionIo {
                key: BufferView::range(&buffer, 1 << 20, 1 << 16),
                ..good
            }),
            Some(E::Gpu(G::View { .. }))
        ));
        assert!(matches!(
            refused(AttentionIo {
                output: good.value,
                ..good
            }),
            Some(E::Gpu(G::Alias { .. }))
        ));
        assert!(matches!(
            refused(AttentionIo {
                output: view(4 << 16),
                ..good
            }),
            Some(E::Gpu(G::SharedBuffer { .. }))
        ));
        for wrong in [
            refused(AttentionIo {
                lse: Some(good.output),
                ..good
            }),
            refused(AttentionIo {
                tree: Some(good.query),
                ..good
            }),
            refused(AttentionIo {
                bias: Some(good.query),
                ..good
            }),
        ] {
            assert!(matches!(wrong, Some(E::Argument { .. })));
        }
    });
}
