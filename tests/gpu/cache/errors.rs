//! Wrong shapes and arguments.

use sunfleck::{
    attention::Element,
    cache::{
        Append, AppendIo, AppendShape, CacheError as E, CacheShape, KvCache, PageCopies, Pager,
        PoolOptions, RopePairs, RopeShape,
    },
    gpu::{BufferView, Capabilities, Gpu},
};

use crate::adapters::on_every_adapter;

#[test]
fn every_wrong_cache_is_a_typed_error() {
    on_every_adapter(|gpu| {
        let shape = CacheShape::new(2, 2, 64, Element::F32);
        let contiguous = |shape, sequences, capacity| {
            KvCache::contiguous(&gpu.gpu, shape, sequences, capacity).err()
        };
        assert!(contiguous(shape, 1, 64).is_none());
        let zero = |given: Option<E>| matches!(given, Some(E::Zero { .. }));
        assert!(zero(contiguous(shape, 0, 64)));
        assert!(zero(contiguous(shape, 1, 0)));
        assert!(zero(contiguous(CacheShape { layers: 0, ..shape }, 1, 64)));
        for head_dim in [0, 6, 260] {
            let odd = contiguous(CacheShape { head_dim, ..shape }, 1, 64);
            assert!(matches!(odd, Some(E::HeadDim { .. })), "{head_dim}");
        }
        let huge = contiguous(shape, 60_000, 60_000);
        assert!(matches!(huge, Some(E::TooLarge { .. })), "{huge:?}");
        let crowd = contiguous(shape, 70_000, 1);
        assert!(matches!(
            crowd,
            Some(E::TooLarge {
                name: "sequences",
                ..
            })
        ));
        let pool = |page_tokens, pages| {
            let pool = PoolOptions { page_tokens, pages };
            KvCache::paged(&gpu.gpu, shape, 1, 64, pool).err()
        };
        for page_tokens in [0, 8, 24, 512] {
            assert!(matches!(pool(page_tokens, 4), Some(E::PageTokens { .. })));
        }
        assert!(zero(pool(16, 0)));

        let small = Gpu::with_capabilities(
            gpu.gpu.device(),
            gpu.gpu.queue(),
            Capabilities {
                limits: sunfleck::wgpu::Limits {
                    max_storage_buffer_binding_size: 128 << 20,
                    ..gpu.gpu.capabilities().limits.clone()
                },
                ..gpu.gpu.capabilities().clone()
            },
        );
        // Half a million tokens of 64 f32s are 128 MiB a head; one more token is too many.
        let error = KvCache::contiguous(&small, shape, 1, (1 << 19) + 1).unwrap_err();
        assert!(matches!(error, E::HeadTooLarge { .. }), "{error}");
        assert!(error.to_string().contains("store f16, q8 or q4"));

        let cache = KvCache::contiguous(&gpu.gpu, shape, 1, 64).unwrap();
        assert!(matches!(cache.pager(), Err(E::NotPaged)));
        let copies = pollster::block_on(PageCopies::new(&gpu.gpu, &cache));
        assert!(matches!(copies, Err(E::NotPaged)));
        let paged = KvCache::paged(
            &gpu.gpu,
            shape,
            1,
            64,
            PoolOptions {
                page_tokens: 16,
                pages: 4,
            },
        )
        .unwrap();
        let other = Pager::new(5, 16, 1, 64).unwrap();
        let written = paged.write_page_table(&gpu.gpu, &other);
        assert!(matches!(written, Err(E::Mismatch { name: "pages", .. })));
    });
}

#[test]
fn append_refuses_buffers_and_layers_that_do_not_fit() {
    on_every_adapter(|gpu| {
        let shape = CacheShape::new(2, 2, 64, Element::F32);
        let cache = KvCache::contiguous(&gpu.gpu, shape, 1, 64).unwrap();
        let buffer = |bytes| gpu.gpu.storage("buffer", bytes).unwrap();
        let (sequences, depth, table, x) = (
            buffer(16),
            buffer(4 * 4),
            buffer(64 * 32 * 8),
            buffer(4 * 8 * 64 * 4),
        );
        let good = AppendIo {
            sequences: BufferView::whole(&sequences),
            depth: BufferView::whole(&depth),
            table: BufferView::whole(&table),
            x: BufferView::whole(&x),
        };
        let rope = RopeShape {
            rotated: 64,
            pairs: RopePairs::Interleaved,
        };
        let append = |layer, rotated, io: AppendIo<'_>, max_rows| {
            let shape = AppendShape {
                query_heads: 4,
                rope: RopeShape { rotated, ..rope },
                row_stride: 0,
                depth_stride: 0,
                max_rows,
            };
            pollster::block_on(Append::new(&gpu.gpu, &cache, layer, &shape, &io)).err()
        };
        let refused = |error: Option<E>, of: &str| {
            let named = matches!(&error, Some(E::Mismatch { name, .. }) if *name == of);
            assert!(named, "{of}: {error:?}");
        };
        assert!(append(1, 64, good, 4).is_none());
        refused(append(2, 64, good, 4), "layer");
        refused(append(0, 63, good, 4), "rotated");
        refused(append(0, 66, good, 4), "rotated");
        refused(append(0, 64, good, 5), "depth");
        let small = BufferView::range(&x, 0, 1024);
        refused(append(0, 64, AppendIo { x: small, ..good }, 4), "x");
        let one = BufferView::range(&x, 0, 4);
        refused(append(0, 64, AppendIo { table: one, ..good }, 4), "table");
        refused(
            append(
                0,
                64,
                AppendIo {
                    sequences: one,
                    ..good
                },
                4,
            ),
            "sequences",
        );
    });
}
