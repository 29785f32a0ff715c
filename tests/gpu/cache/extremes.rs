//! Numbers at the ends of the storage types: zeros, the largest, and blocks whose scale is a subnormal f16.

use sunfleck::{
    attention::{AttentionProblem, CacheIo, Element, TensorLayout, lengths},
    cache::{Append, AppendIo, AppendShape, CacheShape, KvCache, RopePairs, RopeShape},
    gpu::BufferView,
    reference::{
        quantised::{BLOCK, Integers},
        storage::Storage,
    },
};

use super::memory::{HALVES, Half, layer, row, values};
use crate::adapters::{TestGpu, on_every_adapter};

const DIM: usize = 64;

/// Keys and values as stored, and the output of attention over that one token, of a row that holds `key` and
/// `value`.
fn stored(
    gpu: &TestGpu,
    element: Element,
    rotate_keys: bool,
    key: &[f32],
    value: &[f32],
) -> [Vec<f32>; 3] {
    let shape = CacheShape {
        rotate_keys,
        ..CacheShape::new(1, 1, DIM as u32, element)
    };
    let cache = KvCache::contiguous(&gpu.gpu, shape, 1, 4).unwrap();
    let x = [&[0.0; DIM], key, value].concat();
    let sequences = gpu
        .gpu
        .storage_with("sequences", lengths(&[(1, 1)]).as_flattened())
        .unwrap();
    let depth = gpu.gpu.storage_with("depth", &[0u32]).unwrap();
    let table = gpu.gpu.storage("turns", 8).unwrap();
    let x = gpu.gpu.storage_with("x", &x).unwrap();
    let append_shape = AppendShape {
        query_heads: 1,
        rope: RopeShape {
            rotated: 0,
            pairs: RopePairs::Interleaved,
        },
        row_stride: 0,
        depth_stride: 0,
        max_rows: 1,
    };
    let io = AppendIo {
        sequences: (&sequences).into(),
        depth: (&depth).into(),
        table: (&table).into(),
        x: (&x).into(),
    };
    let append = Append::new(&gpu.gpu, &cache, 0, &append_shape, &io);
    let append = pollster::block_on(append).unwrap();
    let mut problem = AttentionProblem::new(1, 1, DIM as u32, 1, 4).with_cache(cache.layout());
    problem.query = TensorLayout {
        token_stride: 3 * DIM as u32,
        ..problem.query
    };
    let plan = gpu.gpu.plan_attention(&problem).unwrap();
    let prepared = pollster::block_on(plan.prepare()).unwrap();
    let output = gpu.gpu.storage("output", DIM as u64 * 4).unwrap();
    let io = CacheIo {
        query: (&x).into(),
        output: (&output).into(),
        lengths: BufferView::whole(&sequences),
        lse: None,
        bias: None,
        tree: None,
    };
    let workspace = prepared.workspace().unwrap();
    let attention = prepared.bind_cache(&workspace, &cache, 0, &io).unwrap();
    gpu.run(|pass| {
        append.encode(pass, 1);
        attention.encode(pass, 1, 1);
    });
    let [keys, values] = HALVES.map(|half: Half| {
        let words = layer(gpu, &cache, 0, half);
        values(element, row(&cache, &words, half, 0, 0), DIM)
    });
    [keys, values, gpu.read(&output)]
}

#[test]
fn zeros_and_huge_numbers_are_stored_as_finite_numbers() {
    on_every_adapter(|gpu| {
        for element in [Element::F16, Element::Bf16, Element::Q8, Element::Q4] {
            let [keys, values, _] = stored(gpu, element, false, &[0.0; DIM], &[-3e38; DIM]);
            assert_eq!(keys, [0.0; DIM], "{} {element:?}", gpu.name);
            let huge = values.iter().all(|v| v.is_finite() && *v <= -65_504.0);
            assert!(huge, "{} {element:?} {values:?}", gpu.name);
        }
    });
}

#[test]
fn bf16_rounds_to_nearest_up_to_its_largest_number() {
    on_every_adapter(|gpu| {
        let largest = half::bf16::MAX.to_f32();
        let bits = f32::from_bits;
        let cases = [
            (f32::MAX, largest),
            (-f32::MAX, -largest),
            (bits(0x7f7f_8000), largest), // half-way to what would be an infinity
            (bits(0x7f7f_7fff), largest),
            (largest, largest),
            (bits(0x7f7e_8000), bits(0x7f7e_0000)), // a tie goes to the even one
            (bits(0x7f7d_8000), bits(0x7f7e_0000)),
            (bits(0xff7e_8001), bits(0xff7f_0000)),
            (bits(0x3f80_8000), 1.0),
            (bits(0x3f81_8000), bits(0x3f82_0000)),
        ];
        for (given, rounded) in cases {
            let nearest = Storage::Bf16.round(f64::from(given));
            let nearest = nearest.clamp(-f64::from(largest), f64::from(largest));
            assert_eq!(nearest, f64::from(rounded), "{given}");
        }
        let mut given = [0.0; DIM];
        let mut rounded = [0.0; DIM];
        for (i, case) in cases.iter().cycle().take(DIM).enumerate() {
            (given[i], rounded[i]) = *case;
        }
        // As pairs of a row, and through workgroup memory.
        let [keys, values, output] = stored(gpu, Element::Bf16, false, &given, &given);
        for got in [keys, values, output] {
            assert_eq!(got, rounded, "{}", gpu.name);
        }
        let [_, values, output] = stored(gpu, Element::Bf16, true, &[0.0; DIM], &given);
        for got in [values, output] {
            assert_eq!(got, rounded, "{} in blocks", gpu.name);
        }
    });
}

#[test]
fn blocks_with_a_subnormal_scale_keep_their_bound() {
    on_every_adapter(|gpu| {
        for (element, integers, levels) in [
            (Element::Q8, Integers::Eight, 127.0),
            (Element::Q4, Integers::Four, 8.0),
        ] {
            // The least normal f16 is 6e-5, the least subnormal 6e-8; below half of that a block is 0.
            for largest in [7e-3f32, 1e-4, 1e-5, 6e-6, 3e-6, 1e-8] {
                let given: Vec<f32> = (0..DIM)
                    .map(|i| largest * ((i * 29 % BLOCK) as f32 / 15.5 - 1.0))
                    .collect();
                let [_, values, output] = stored(gpu, element, true, &[0.0; DIM], &given);
                let bound = integers.error_bound(f64::from(largest));
                // A bound as large as the numbers would say nothing.
                assert!(
                    bound < f64::from(largest) * 0.6 || largest < 1e-5,
                    "{largest}"
                );
                for ((given, stored), output) in given.iter().zip(&values).zip(&output) {
                    let error = (f64::from(*stored) - f64::from(*given)).abs();
                    assert!(
                        error <= bound,
                        "{} {element:?}: {stored} for {given}, largest {largest}, bound {bound}",
                        gpu.name
                    );
                    // Attention over one key gives its value: it must read the same scale.
                    assert!(
                        (output - stored).abs() <= stored.abs() * 1e-6,
                        "{} {element:?}: attention reads {output} where {stored} is stored",
                        gpu.name
                    );
                }
                let nothing = values.iter().all(|value| *value == 0.0);
                let no_scale = largest / levels < 2f32.powi(-25);
                assert_eq!(nothing, no_scale, "{} {element:?} {largest}", gpu.name);
            }
        }
    });
}
