//! Rotation, conversion and write of keys and values.

use sunfleck::{
    attention::Element,
    cache::{
        Append, AppendIo, AppendShape, CacheShape, KvCache, PoolOptions, RopePairs, RopeShape,
    },
    gpu::BufferView,
    reference::{
        compare::{Tolerance, compare},
        quantised::{self, Integers},
        rope,
        storage::Storage,
    },
};

use super::memory::{HALVES, fill, layer, row, slot, values};
use crate::{
    adapters::{TestGpu, on_every_adapter},
    random::Random,
};

const QUERY_HEADS: usize = 6;
const CAPACITY: u32 = 66;
const SEQUENCES: usize = 3;
const MAX_ROWS: u32 = 6;
const LAYER: u32 = 1;

/// Rows, committed tokens and evicted tokens of each sequence. The second passes its capacity.
const STEPS: [(u32, u32, u32); SEQUENCES] = [(5, 14, 0), (4, CAPACITY - 3, 32), (0, 3, 0)];

/// Depths of a tree with branches.
const DEPTHS: [u32; MAX_ROWS as usize] = [0, 1, 1, 2, 3, 1];

/// One head of `x` as the twin rotates it.
pub fn rotated(head: &[f32], position: u32, shape: &RopeShape, hadamard: bool) -> Vec<f64> {
    let turn = rope::Rope {
        position_scale: 0.5,
        ..rope::Rope::new(shape.rotated as usize, 10_000.0)
    };
    // The twin rotates neighbours: halves become neighbours and halves again.
    let pairs = shape.rotated as usize / 2;
    let place = |i: usize| match shape.pairs {
        RopePairs::Halves if i < 2 * pairs => i / pairs + i % pairs * 2,
        _ => i,
    };
    let mut neighbours = head.to_vec();
    for (i, value) in head.iter().enumerate() {
        neighbours[place(i)] = *value;
    }
    let turned = rope::rope(&neighbours, &[position], 1, head.len(), &turn).unwrap();
    let back: Vec<f64> = (0..head.len()).map(|i| turned[place(i)]).collect();
    if hadamard {
        quantised::hadamard(&back)
    } else {
        back
    }
}

pub fn check_stored(name: &str, element: Element, got: &[f32], expected: &[f64]) {
    let integers = match element {
        Element::Q8 => Integers::Eight,
        Element::Q4 => Integers::Four,
        _ => {
            let storage = match element {
                Element::F16 => Storage::F16,
                Element::Bf16 => Storage::Bf16,
                _ => Storage::F32,
            };
            let naive = storage.round_all(expected);
            let tolerance = Tolerance::twice_naive(&naive, expected);
            compare(name, got, expected, tolerance).unwrap();
            return;
        }
    };
    for (got, expected) in got
        .chunks(quantised::BLOCK)
        .zip(expected.chunks(quantised::BLOCK))
    {
        let largest = expected.iter().fold(0f64, |m, v| m.max(v.abs()));
        let bound = integers.error_bound(largest) + largest * 1e-6;
        for (got, expected) in got.iter().zip(expected) {
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= bound,
                "{name}: {got} for {expected}, bound {bound}"
            );
        }
    }
}

fn check(gpu: &TestGpu, shape: CacheShape, rope: RopeShape, page: Option<u32>, ragged: bool) {
    let name = format!(
        "{} {shape:?} {rope:?} page {page:?} ragged {ragged}",
        gpu.name
    );
    let sequences = SEQUENCES as u32;
    let mut pager = None;
    let cache = match page {
        None => KvCache::contiguous(&gpu.gpu, shape, sequences, CAPACITY).unwrap(),
        Some(page_tokens) => {
            let pool = PoolOptions {
                page_tokens,
                pages: 12,
            };
            let cache = KvCache::paged(&gpu.gpu, shape, sequences, CAPACITY, pool).unwrap();
            let mut accounts = cache.pager().unwrap();
            let ids: Vec<_> = STEPS.map(|_| accounts.create().unwrap()).into();
            // Pages in no simple order; the second sequence has room for its first row only.
            let rounds = [(0, 10), (1, CAPACITY - 2), (2, 4), (0, 20)];
            for (sequence, tokens) in rounds {
                accounts.reserve(&[(ids[sequence], tokens)]).unwrap();
            }
            cache.write_page_table(&gpu.gpu, &accounts).unwrap();
            pager = Some(accounts);
            cache
        }
    };
    fill(gpu, &cache, 7);
    let before = HALVES.map(|half| layer(gpu, &cache, LAYER, half));
    let other_layer = HALVES.map(|half| layer(gpu, &cache, 0, half));

    let (kv_heads, dim, value_dim) = (
        shape.kv_heads as usize,
        shape.head_dim as usize,
        shape.value_dim as usize,
    );
    let width = (QUERY_HEADS + kv_heads) * dim + kv_heads * value_dim;
    let mut random = Random(77);
    let rows = SEQUENCES * MAX_ROWS as usize;
    let x = random.normals(rows * width);
    let first_row = |sequence: usize| -> usize {
        match ragged {
            true => STEPS[..sequence].iter().map(|step| step.0 as usize).sum(),
            false => sequence * MAX_ROWS as usize,
        }
    };
    let words: Vec<[u32; 4]> = (0..SEQUENCES)
        .map(|sequence| {
            let (rows, past, evicted) = STEPS[sequence];
            let start = if ragged {
                first_row(sequence) as u32
            } else {
                0
            };
            [rows, past, start, evicted]
        })
        .collect();
    let upload = |label: &str, bytes: &[u8]| gpu.gpu.storage_with(label, bytes).unwrap();
    let lengths = upload("sequences", bytemuck::cast_slice(&words));
    let depths: Vec<u32> = DEPTHS.repeat(SEQUENCES);
    let depth = upload("depth", bytemuck::cast_slice(&depths));
    let turns = rope.table(200, 10_000.0, 2.0);
    let table = upload("turns", bytemuck::cast_slice(turns.as_flattened()));
    let x_buffer = upload("x", bytemuck::cast_slice(&x));
    let append_shape = AppendShape {
        query_heads: QUERY_HEADS as u32,
        rope,
        row_stride: if ragged { 0 } else { MAX_ROWS },
        depth_stride: MAX_ROWS,
        max_rows: MAX_ROWS,
    };
    let io = AppendIo {
        sequences: BufferView::whole(&lengths),
        depth: BufferView::whole(&depth),
        table: BufferView::whole(&table),
        x: BufferView::whole(&x_buffer),
    };
    let append = Append::new(&gpu.gpu, &cache, LAYER, &append_shape, &io);
    let append = pollster::block_on(append).unwrap();
    gpu.run(|pass| append.encode(pass, MAX_ROWS));

    let got_x: Vec<f32> = gpu.read(&x_buffer);
    let after = HALVES.map(|half| layer(gpu, &cache, LAYER, half));
    assert_eq!(
        other_layer,
        HALVES.map(|half| layer(gpu, &cache, 0, half)),
        "{name}"
    );
    let mut written = vec![];
    for (sequence, (rows, past, evicted)) in STEPS.into_iter().enumerate() {
        for (r, depth) in DEPTHS.into_iter().enumerate().take(rows as usize) {
            let base = if page.is_some() { evicted } else { 0 };
            let position = past + depth + base;
            let start = (first_row(sequence) + r) * width;
            for head in 0..QUERY_HEADS {
                let at = start + head * dim;
                let expected = rotated(&x[at..][..dim], position, &rope, shape.rotate_keys);
                compare(&name, &got_x[at..][..dim], &expected, Tolerance::F32).unwrap();
            }
            let Some(slot) = slot(&cache, pager.as_ref(), sequence, past + r as u32) else {
                continue;
            };
            written.push(slot);
            for head in 0..kv_heads {
                let at = start + (QUERY_HEADS + head) * dim;
                let key = rotated(&x[at..][..dim], position, &rope, shape.rotate_keys);
                let at = start + (QUERY_HEADS + kv_heads) * dim + head * value_dim;
                let value: Vec<f64> = x[at..][..value_dim].iter().map(|v| f64::from(*v)).collect();
                for ((half, expected), after) in HALVES.into_iter().zip([key, value]).zip(&after) {
                    let stored = row(&cache, after, half, head, slot);
                    let (element, dim) = (half.element(&shape), half.dim(&shape));
                    check_stored(&name, element, &values(element, stored, dim), &expected);
                }
            }
        }
    }
    // Sequence 1 has room for three of its rows; in pages, for the one that was reserved.
    let room = if page.is_some() { 1 } else { 3 };
    assert_eq!(written.len(), 5 + room, "{name}: {written:?}");
    for half in HALVES {
        let (before, after) = (&before[half as usize], &after[half as usize]);
        for head in 0..kv_heads {
            for slot in (0..super::memory::slots(&cache)).filter(|slot| !written.contains(slot)) {
                let same =
                    row(&cache, before, half, head, slot) == row(&cache, after, half, head, slot);
                assert!(same, "{name}: {half:?} head {head} slot {slot} was written");
            }
        }
    }
    // Rows of no sequence stay as they were.
    let idle = first_row(SEQUENCES - 1) * width;
    assert_eq!(
        got_x[idle + MAX_ROWS as usize..],
        x[idle + MAX_ROWS as usize..],
        "{name}"
    );
}

#[test]
fn every_element_type_holds_the_rotated_keys_and_the_values() {
    on_every_adapter(|gpu| {
        let rope = RopeShape {
            rotated: 64,
            pairs: RopePairs::Interleaved,
        };
        for (i, element) in Element::ALL.into_iter().enumerate() {
            let shape = CacheShape::new(2, 3, 64, element);
            check(gpu, shape, rope, [None, Some(16)][i % 2], i % 3 == 0);
            check(gpu, shape, rope, [Some(32), None][i % 2], i % 3 != 0);
        }
    });
}

#[test]
fn keys_and_values_may_differ_in_size_and_type() {
    on_every_adapter(|gpu| {
        for (key, value, rotate_keys) in [
            (Element::Q8, Element::Q4, true),
            (Element::Q4, Element::F16, false),
            (Element::F16, Element::Q8, true),
            (Element::Bf16, Element::F32, true),
            (Element::F32, Element::Bf16, false),
        ] {
            // Heads that are no multiple of the block, nor a power of two.
            let shape = CacheShape {
                head_dim: 40,
                value_dim: 20,
                key,
                value,
                rotate_keys,
                ..CacheShape::new(2, 2, 40, key)
            };
            let rope = RopeShape {
                rotated: 24,
                pairs: RopePairs::Halves,
            };
            check(gpu, shape, rope, Some(16), true);
        }
    });
}

#[test]
fn halves_rotate_as_neighbours_do_after_a_permutation() {
    on_every_adapter(|gpu| {
        for (rotated, element) in [(128, Element::F32), (96, Element::F16), (128, Element::Q8)] {
            let rope = RopeShape {
                rotated,
                pairs: RopePairs::Halves,
            };
            check(gpu, CacheShape::new(2, 2, 128, element), rope, None, false);
        }
    });
}
