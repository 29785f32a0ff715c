//! Numbers that other kernels got wrong.

use super::{case::Inputs, *};
use crate::attention::case::Case;

/// Few rows, and enough for the prefill kernel.
const QUERIES: [u32; 2] = [1, 70];

/// A head of 8 with `[query 0.., key 0..]` values given by functions of the index.
fn filled(case: &Case, key: impl Fn(usize) -> f32, value: impl Fn(usize) -> f32) -> Inputs {
    let p = &case.problem;
    let dim = p.head_dim as usize;
    let keys = p.max_keys as usize;
    let spread = |of: &dyn Fn(usize) -> f32| (0..keys * dim).map(|i| of(i / dim)).collect();
    Inputs {
        q: vec![1.0; (p.max_queries * p.query_heads) as usize * dim],
        k: spread(&key),
        v: spread(&value),
        bias: None,
    }
}

fn unmasked(queries: u32, keys: u32) -> Case {
    let mut case = case(1, 1, 8, queries, keys);
    case.problem.mask = Mask::None;
    case.problem.lse = true;
    case
}

fn stored_as(case: &mut Case, element: Element) {
    let p = &mut case.problem;
    for tensor in [&mut p.query, &mut p.key, &mut p.value, &mut p.output] {
        tensor.element = element;
    }
}

#[test]
fn the_denominator_of_many_flat_scores_neither_stagnates_nor_overflows() {
    // A sum of ones in f16 stops at 2048 and is infinite from 65520 on.
    on_every_adapter(|gpu| {
        for (queries, element) in [(1, Element::F16), (1, Element::F32), (70, Element::F16)] {
            // lavapipe ends the loops of an invocation after 65535 iterations, all loops together
            // (LP_MAX_TGSI_LOOP_ITERATIONS), which the kernel for hardware passes here.
            let keys = match gpu.name.contains("hardware") && queries > 1 {
                true => 30_000u32,
                false => 70_000,
            };
            let mut flat = unmasked(queries, keys);
            stored_as(&mut flat, element);
            let inputs = filled(&flat, |_| 0.25, |key| (key % 5) as f32);
            let got = flat.run(gpu, &inputs).unwrap();
            let what = format!("{}: {queries} queries, {element:?}", gpu.name);
            let mean = vec![2.0f64; got.output.len()];
            compare(&what, &got.output, &mean, Tolerance::from_nmse(1e-10)).unwrap();
            let lse = 8.0 * 0.25 / 8f64.sqrt() + f64::from(keys).ln();
            let lse = vec![lse; got.lse.len()];
            compare(&what, &got.lse, &lse, Tolerance::from_nmse(1e-10)).unwrap();
        }
    });
}

#[test]
fn sums_of_f16_tensors_are_not_f16_sums() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            // Scores of 8 * 200 * 200 / sqrt(8), and sums of values, are above the largest f16.
            let mut large = unmasked(queries, 300);
            stored_as(&mut large, Element::F16);
            let mut inputs = filled(&large, |_| 200.0, |_| 60_000.0);
            inputs.q.fill(200.0);
            let got = large.run(gpu, &inputs).unwrap();
            assert!(got.output.iter().all(|v| *v == 60_000.0), "{}", gpu.name);
        }
    });
}

#[test]
fn a_maximum_that_moves_with_every_key_is_followed() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            for step in [0.05, -0.05, 3.0, -3.0] {
                let moving = unmasked(queries, 700);
                let inputs = filled(&moving, |key| key as f32 * step, |key| (key % 11) as f32);
                moving.verify_inputs(gpu, &inputs).unwrap();
            }
        }
    });
}

#[test]
fn logits_of_ten_thousand_do_not_overflow() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            let large = unmasked(queries, 300);
            let mut inputs = large.inputs(94);
            // Scores of standard deviation 1e4 / 3.
            inputs.q.iter_mut().for_each(|q| *q *= 1e4 / 3.0);
            let scores = inputs.q[..8].iter().zip(&inputs.k).map(|(q, k)| q * k);
            assert!(scores.sum::<f32>().abs() > 1e3);
            large.verify_inputs(gpu, &inputs).unwrap();
            // All of them below -1e4.
            let inputs = filled(&large, |_| -1e4, |key| (key % 3) as f32);
            large.verify_inputs(gpu, &inputs).unwrap();
        }
    });
}

#[test]
fn equal_logits_give_the_mean() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            for logit in [0.0, -0.0, 0.25, -1767.0, 1767.0] {
                let equal = unmasked(queries, 300);
                let inputs = filled(&equal, |_| logit, |key| key as f32);
                let got = equal.run(gpu, &inputs).unwrap();
                let mean = vec![149.5f64; got.output.len()];
                let what = format!("{}: logit {logit}", gpu.name);
                compare(&what, &got.output, &mean, Tolerance::from_nmse(1e-10)).unwrap();
            }
        }
    });
}

#[test]
fn one_huge_key_has_all_the_weight() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            for (huge, others) in [(1767.0, -1767.0), (1e28, 0.0), (0.0, -1e28), (1e25, -1e25)] {
                let lonely = unmasked(queries, 300);
                let key = |key| if key == 123 { huge } else { others };
                let got = lonely.run(gpu, &filled(&lonely, key, |key| key as f32));
                let got = got.unwrap().output;
                assert!(got.iter().all(|v| *v == 123.0), "{}: {huge}", gpu.name);
            }
        }
    });
}

#[test]
fn subnormal_numbers_are_kept_or_flushed_and_nothing_else() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            let tiny = unmasked(queries, 300);
            // Subnormal scores are no scores.
            let got = tiny.run(gpu, &filled(&tiny, |_| 1e-40, |key| key as f32));
            let got = got.unwrap().output;
            let mean = vec![149.5f64; got.len()];
            compare(&gpu.name, &got, &mean, Tolerance::from_nmse(1e-10)).unwrap();
            // WGSL lets a device flush subnormal values.
            let got = tiny.run(gpu, &filled(&tiny, |key| key as f32 * 1e-3, |_| 1e-40));
            let got = got.unwrap().output;
            assert!(
                got.iter().all(|v| (0.0..1.1e-40).contains(v)),
                "{}: {:e}",
                gpu.name,
                got[0]
            );
            // In f16 the smallest number is a normal one of f32.
            let mut half = unmasked(queries, 300);
            stored_as(&mut half, Element::F16);
            let smallest = 6e-8;
            let got = half.run(gpu, &filled(&half, |_| smallest, |_| smallest));
            let got = got.unwrap().output;
            let stored = half::f16::from_f32(smallest).to_f32();
            assert!(
                got.iter().all(|v| *v == stored),
                "{}: {:e}",
                gpu.name,
                got[0]
            );
        }
    });
}

#[test]
fn negative_zeros_are_zeros() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            let zeros = unmasked(queries, 40);
            let mut inputs = filled(
                &zeros,
                |key| if key % 2 == 0 { -0.0 } else { 0.0 },
                |_| -0.0,
            );
            inputs.q.fill(-0.0);
            let got = zeros.run(gpu, &inputs).unwrap();
            assert!(got.output.iter().all(|v| *v == 0.0), "{}", gpu.name);
            assert!((got.lse[0] - 40f32.ln()).abs() < 1e-5, "{}", gpu.name);
        }
    });
}

#[test]
fn alibi_over_large_distances_is_exact() {
    on_every_adapter(|gpu| {
        for (queries, keys) in [(1, 20_000), (70, 3_000)] {
            let mut far = case(4, 2, 8, queries, keys);
            far.problem.lse = true;
            far.problem.alibi_slopes = Some(vec![1.0, 0.5, 2f32.powi(-8), 1e-4]);
            check(gpu, &far, 95);
            // Also of keys after the query.
            far.problem.mask = Mask::None;
            check(gpu, &far, 96);
        }
    });
}

/// 10 queries of which a bias hides `hidden` keys; the rest of the bias is 0.
fn hiding(queries: u32, keys: u32, hidden: impl Fn(usize, usize) -> bool) -> (Case, Inputs) {
    use sunfleck::attention::BiasLayout;
    let mut case = case(4, 2, 32, queries, keys);
    case.problem.mask = Mask::None;
    case.problem.lse = true;
    case.problem.bias = Some(BiasLayout {
        query_stride: keys,
        ..Default::default()
    });
    let mut inputs = case.inputs(97);
    let keys = keys as usize;
    let bias = (0..queries as usize * keys).map(|i| match hidden(i / keys, i % keys) {
        true => f32::NEG_INFINITY,
        false => 0.0,
    });
    inputs.bias = Some(bias.collect());
    (case, inputs)
}

#[test]
fn a_fully_masked_row_is_exactly_zero_and_its_lse_no_key() {
    on_every_adapter(|gpu| {
        for queries in [3u32, 70] {
            let (case, inputs) = hiding(queries, 300, |query, _| query == 1);
            case.verify_inputs(gpu, &inputs).unwrap();
            let got = case.run(gpu, &inputs).unwrap();
            let row = 4 * 32;
            assert!(
                got.output[row..2 * row].iter().all(|v| v.to_bits() == 0),
                "{}",
                gpu.name
            );
            assert_eq!(got.lse[4..8], [NO_KEY; 4], "{}", gpu.name);
        }
    });
}

#[test]
fn masked_tiles_first_last_or_in_the_middle_change_nothing() {
    on_every_adapter(|gpu| {
        for queries in [3u32, 70] {
            // More than a tile and a span of any kernel each.
            for range in [0..300, 200..600, 500..800, 8..16, 32..64, 0..799] {
                let (case, inputs) = hiding(queries, 800, |_, key| range.contains(&key));
                case.verify_inputs(gpu, &inputs).unwrap();
                // In every other row only.
                let (case, inputs) = hiding(queries, 800, |query, key| {
                    query % 2 == 0 && range.contains(&key)
                });
                case.verify_inputs(gpu, &inputs).unwrap();
            }
        }
    });
}

#[test]
fn a_window_that_hides_the_first_tiles_changes_nothing() {
    on_every_adapter(|gpu| {
        for queries in QUERIES {
            for window in [7, 33, 257] {
                let mut windowed = case(2, 1, 32, queries, 800);
                windowed.problem.lse = true;
                windowed.problem.window = Some(window);
                check(gpu, &windowed, 98);
            }
        }
    });
}
