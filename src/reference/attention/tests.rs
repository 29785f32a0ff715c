use super::*;
use proptest::prelude::*;

/// A tiny deterministic stream of numbers in [-1, 1).
fn numbers(count: usize, seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
        })
        .collect()
}

const SHAPE: AttentionShape = AttentionShape {
    batch: 2,
    query_heads: 6,
    kv_heads: 2,
    queries: 4,
    keys: 11,
    head_dim: 8,
    value_dim: 5,
};

fn tensors(shape: &AttentionShape) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let AttentionShape {
        batch,
        query_heads,
        kv_heads,
        queries,
        keys,
        head_dim,
        value_dim,
    } = *shape;
    (
        numbers(batch * queries * query_heads * head_dim, 1),
        numbers(batch * keys * kv_heads * head_dim, 2),
        numbers(batch * keys * kv_heads * value_dim, 3),
    )
}

fn run(shape: &AttentionShape, options: &AttentionOptions<'_>) -> AttentionOutput {
    let (q, k, v) = tensors(shape);
    attention(shape, &q, &k, &v, options).unwrap()
}

fn assert_near(a: &AttentionOutput, b: &AttentionOutput) {
    for (a, b) in a
        .output
        .iter()
        .zip(&b.output)
        .chain(a.lse.iter().zip(&b.lse))
    {
        assert!(a == b || (a - b).abs() < 1e-12, "{a} {b}");
    }
}

/// One query of one head over scalar keys and values.
fn scalar(keys: usize) -> AttentionShape {
    AttentionShape {
        batch: 1,
        query_heads: 1,
        kv_heads: 1,
        queries: 1,
        keys,
        head_dim: 1,
        value_dim: 1,
    }
}

#[test]
fn two_keys_give_the_logistic_weights() {
    let (q, k, v) = ([1.0f32], [2.0f32, 0.0], [1.0f32, 0.0]);
    let result = attention(&scalar(2), &q, &k, &v, &AttentionOptions::default()).unwrap();
    assert!((result.output[0] - 1.0 / (1.0 + (-2f64).exp())).abs() < 1e-15);
    assert!((result.lse[0] - (2f64.exp() + 1.0).ln()).abs() < 1e-15);
}

#[test]
fn default_scale_is_one_over_root_head_dim() {
    let explicit = AttentionOptions {
        scale: Some(8f64.sqrt().recip()),
        ..Default::default()
    };
    assert_eq!(
        run(&SHAPE, &AttentionOptions::default()),
        run(&SHAPE, &explicit)
    );
}

#[test]
fn causal_mask_is_bottom_right_aligned() {
    let visible = |_: usize, query: usize, key: usize| key <= query + 7;
    let by_hand = AttentionOptions {
        mask: Mask::Visible(&visible),
        ..Default::default()
    };
    let causal = AttentionOptions {
        mask: Mask::Causal,
        ..Default::default()
    };
    assert_eq!(run(&SHAPE, &causal), run(&SHAPE, &by_hand));
}

#[test]
fn fully_masked_row_gives_zero() {
    // More queries than keys: the first ones stand before the first key.
    let shape = AttentionShape {
        queries: 3,
        keys: 2,
        ..SHAPE
    };
    let causal = AttentionOptions {
        mask: Mask::Causal,
        ..Default::default()
    };
    let result = run(&shape, &causal);
    let heads = shape.query_heads;
    assert!(
        result.output[..heads * shape.value_dim]
            .iter()
            .all(|&x| x == 0.0)
    );
    assert!(result.lse[..heads].iter().all(|&x| x == f64::NEG_INFINITY));
    assert!(result.lse[heads..3 * heads].iter().all(|x| x.is_finite()));
}

#[test]
fn no_keys_at_all_gives_zero() {
    let result = run(
        &AttentionShape { keys: 0, ..SHAPE },
        &AttentionOptions::default(),
    );
    assert!(result.output.iter().all(|&x| x == 0.0));
    assert!(result.lse.iter().all(|&x| x == f64::NEG_INFINITY));
}

#[test]
fn no_queries_give_nothing_whatever_the_batch() {
    let shape = AttentionShape {
        batch: usize::MAX,
        queries: 0,
        keys: 0,
        ..SHAPE
    };
    let none: [f32; 0] = [];
    let result = attention(&shape, &none, &none, &none, &AttentionOptions::default()).unwrap();
    assert!(result.output.is_empty() && result.lse.is_empty());
}

#[test]
fn minus_infinite_bias_hides_a_key_like_the_mask() {
    let visible = |batch: usize, query: usize, key: usize| !(batch + query + key).is_multiple_of(3);
    let mut bias = Vec::new();
    for batch in 0..SHAPE.batch {
        for _head in 0..SHAPE.query_heads {
            for query in 0..SHAPE.queries {
                for key in 0..SHAPE.keys {
                    bias.push(if visible(batch, query, key) {
                        0.0
                    } else {
                        f64::NEG_INFINITY
                    });
                }
            }
        }
    }
    let by_bias = AttentionOptions {
        bias: Some(&bias),
        ..Default::default()
    };
    let by_mask = AttentionOptions {
        mask: Mask::Visible(&visible),
        ..Default::default()
    };
    assert_eq!(run(&SHAPE, &by_bias), run(&SHAPE, &by_mask));
}

#[test]
fn window_keeps_the_nearest_keys() {
    let visible = |_: usize, query: usize, key: usize| (query + 5..=query + 7).contains(&key);
    let by_hand = AttentionOptions {
        mask: Mask::Visible(&visible),
        ..Default::default()
    };
    let window = AttentionOptions {
        mask: Mask::Causal,
        window: Some(3),
        ..Default::default()
    };
    assert_eq!(run(&SHAPE, &window), run(&SHAPE, &by_hand));
}

#[test]
fn alibi_is_a_bias_by_distance() {
    let slopes = [0.5, 0.25, 0.125, 1.0, 2.0, 0.0];
    let mut bias = Vec::new();
    for _batch in 0..SHAPE.batch {
        for slope in slopes {
            for query in 0..SHAPE.queries {
                bias.extend((0..SHAPE.keys).map(|key| -slope * (query + 7).abs_diff(key) as f64));
            }
        }
    }
    let by_slope = AttentionOptions {
        alibi_slopes: Some(&slopes),
        ..Default::default()
    };
    let by_bias = AttentionOptions {
        bias: Some(&bias),
        ..Default::default()
    };
    assert_near(&run(&SHAPE, &by_slope), &run(&SHAPE, &by_bias));
}

#[test]
fn softcap_bounds_the_scores() {
    let options = AttentionOptions {
        scale: Some(1.0),
        softcap: Some(2.0),
        ..Default::default()
    };
    let result = attention(&scalar(1), &[1e3f64], &[1e3f64], &[1.0f64], &options).unwrap();
    assert_eq!(result.lse, [2.0]);
}

#[test]
fn sink_takes_weight_and_gives_no_value() {
    let sinks = [1.0];
    let options = AttentionOptions {
        sinks: Some(&sinks),
        ..Default::default()
    };
    let result = attention(&scalar(1), &[0.0f64], &[0.0f64], &[1.0f64], &options).unwrap();
    assert!((result.output[0] - 1.0 / (1.0 + 1f64.exp())).abs() < 1e-15);
    assert!((result.lse[0] - (1.0 + 1f64.exp()).ln()).abs() < 1e-15);
    let masked = AttentionOptions {
        mask: Mask::Visible(&|_, _, _| false),
        ..options
    };
    let result = attention(&scalar(1), &[0.0f64], &[0.0f64], &[1.0f64], &masked).unwrap();
    assert_eq!(
        result,
        AttentionOutput {
            output: vec![0.0],
            lse: vec![1.0]
        }
    );
}

#[test]
fn padding_is_never_read() {
    let (q, mut k, mut v) = tensors(&SHAPE);
    let lengths = [3, 11];
    for x in &mut k[3 * 2 * 8..11 * 2 * 8] {
        *x = f64::NAN;
    }
    for x in &mut v[3 * 2 * 5..11 * 2 * 5] {
        *x = f64::NAN;
    }
    let options = AttentionOptions {
        mask: Mask::Causal,
        key_lengths: Some(&lengths),
        query_lengths: Some(&[2, 4]),
        ..Default::default()
    };
    let padded = attention(&SHAPE, &q, &k, &v, &options).unwrap();
    let alone = AttentionShape {
        batch: 1,
        queries: 2,
        keys: 3,
        ..SHAPE
    };
    let causal = AttentionOptions {
        mask: Mask::Causal,
        ..Default::default()
    };
    let expected = attention(
        &alone,
        &q[..2 * 6 * 8],
        &k[..3 * 2 * 8],
        &v[..3 * 2 * 5],
        &causal,
    )
    .unwrap();
    assert_eq!(padded.output[..2 * 6 * 5], expected.output);
    assert_eq!(padded.lse[..2 * 6], expected.lse);
    assert!(
        padded.lse[2 * 6..4 * 6]
            .iter()
            .all(|&x| x == f64::NEG_INFINITY)
    );
    assert!(padded.output.iter().all(|x| x.is_finite()));
}

#[test]
fn large_scores_do_not_overflow() {
    let options = AttentionOptions {
        scale: Some(1.0),
        ..Default::default()
    };
    let (k, v) = ([1e4f64, -1e4, 1e4], [1.0f64, 7.0, 3.0]);
    let result = attention(&scalar(3), &[1.0f64], &k, &v, &options).unwrap();
    assert_eq!(result.output, [2.0]);
    assert_eq!(result.lse, [1e4 + 2f64.ln()]);
}

#[test]
fn naive_f16_is_near_but_not_equal() {
    let (q, k, v) = tensors(&SHAPE);
    let options = AttentionOptions {
        mask: Mask::Causal,
        ..Default::default()
    };
    let exact = attention(&SHAPE, &q, &k, &v, &options).unwrap();
    let naive = |storage| naive_attention(&SHAPE, &q, &k, &v, &options, storage).unwrap();
    let error =
        |naive: AttentionOutput| crate::reference::compare::nmse(&naive.output, &exact.output);
    let (f32_error, f16_error, bf16_error) = (
        error(naive(Storage::F32)),
        error(naive(Storage::F16)),
        error(naive(Storage::Bf16)),
    );
    assert!(f32_error < 1e-12 && f32_error < f16_error && f16_error < bf16_error);
    assert!(f16_error < 1e-5 && bf16_error < 1e-3);
}

#[test]
fn merging_no_state_is_empty_and_unequal_states_are_refused() {
    let empty = merge_states(&[]).unwrap();
    assert!(empty.output.is_empty() && empty.lse.is_empty());
    let one = AttentionOutput {
        output: vec![1.0, 2.0],
        lse: vec![0.0],
    };
    let two = AttentionOutput {
        output: vec![1.0, 2.0],
        lse: vec![0.0, 0.0],
    };
    assert!(merge_states(&[one, two]).is_err());
}

#[test]
fn some_rows_are_those_of_the_whole() {
    let (q, k, v) = tensors(&SHAPE);
    let options = AttentionOptions {
        mask: Mask::Causal,
        sinks: Some(&[0.5, -1.0, 2.0, 0.0, 9.0, -9.0]),
        query_lengths: Some(&[4, 2]),
        ..Default::default()
    };
    let whole = attention(&SHAPE, &q, &k, &v, &options).unwrap();
    let rows = [47, 0, 13, 29];
    let some = attention_rows(&SHAPE, &q, &k, &v, &options, &rows).unwrap();
    for (at, row) in rows.into_iter().enumerate() {
        assert_eq!(some.lse[at], whole.lse[row]);
        assert_eq!(some.output[at * 5..][..5], whole.output[row * 5..][..5]);
    }
    assert!(attention_rows(&SHAPE, &q, &k, &v, &options, &[48]).is_err());
}

#[test]
fn a_tree_measures_windows_by_its_own_distance() {
    let everything = |_: usize, _: usize, _: usize| true;
    let index_distance = |_: usize, query: usize, key: usize| (query + 7).abs_diff(key);
    let with = |mask| AttentionOptions {
        mask,
        window: Some(3),
        alibi_slopes: Some(&[0.5; 6]),
        ..Default::default()
    };
    let as_tree = Mask::Tree {
        visible: &everything,
        distance: &index_distance,
    };
    let plain = run(&SHAPE, &with(Mask::None));
    assert_eq!(run(&SHAPE, &with(as_tree)), plain);
    let nearby = |_: usize, _: usize, _: usize| 0;
    let all_near = Mask::Tree {
        visible: &everything,
        distance: &nearby,
    };
    assert_eq!(
        run(&SHAPE, &with(all_near)),
        run(&SHAPE, &AttentionOptions::default())
    );
}

#[test]
fn misfits_are_named() {
    let (q, k, v) = tensors(&SHAPE);
    let default = AttentionOptions::default();
    let error = attention(&SHAPE, &q[1..], &k, &v, &default).unwrap_err();
    assert!(
        error.to_string().contains("`query` needs 384 elements"),
        "{error}"
    );
    let odd = AttentionShape {
        query_heads: 5,
        ..SHAPE
    };
    assert!(attention(&odd, &q, &k, &v, &default).is_err());
    let long = AttentionOptions {
        key_lengths: Some(&[12, 1]),
        ..Default::default()
    };
    assert!(attention(&SHAPE, &q, &k, &v, &long).is_err());
    assert!(split_attention(&SHAPE, &q, &k, &v, &default, 0).is_err());
}

proptest! {
    #[test]
    fn split_and_merge_equals_whole(
        span in 1usize..14,
        keys in 0usize..14,
        queries in 1usize..5,
        causal: bool,
        window in prop::option::of(1usize..6),
        with_sinks: bool,
    ) {
        let shape = AttentionShape { keys, queries, ..SHAPE };
        let (q, k, v) = tensors(&shape);
        let options = AttentionOptions {
            mask: if causal { Mask::Causal } else { Mask::None },
            window,
            sinks: with_sinks.then_some(&[0.5, -1.0, 2.0, 0.0, 9.0, -9.0]),
            ..Default::default()
        };
        let whole = attention(&shape, &q, &k, &v, &options).unwrap();
        assert_near(&split_attention(&shape, &q, &k, &v, &options, span).unwrap(), &whole);
    }

    #[test]
    fn outputs_are_convex_combinations_of_values(seed in 0u64..1000) {
        let value = numbers(9, seed);
        let result = attention(
            &scalar(9), &numbers(1, seed + 1), &numbers(9, seed + 2), &value, &AttentionOptions::default(),
        ).unwrap();
        let low = value.iter().copied().fold(f64::INFINITY, f64::min);
        let high = value.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        prop_assert!((low..=high).contains(&result.output[0]));
    }
}
