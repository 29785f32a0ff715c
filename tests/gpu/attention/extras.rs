//! What some models do to scores and denominators.

use super::*;

#[test]
fn softcap_alibi_and_sinks_alone_and_together() {
    on_every_adapter(|gpu| {
        let slopes = |p: &AttentionProblem| -> Vec<f32> {
            (0..p.query_heads)
                .map(|head| 0.5f32.powi(head as i32))
                .collect()
        };
        let sinks = |p: &AttentionProblem| -> Vec<f32> {
            (0..p.query_heads).map(|head| head as f32 - 1.5).collect()
        };
        check_few_and_many(gpu, |p| p.softcap = Some(0.7), 53);
        check_few_and_many(gpu, |p| p.alibi_slopes = Some(slopes(p)), 54);
        check_few_and_many(gpu, |p| p.sinks = Some(sinks(p)), 55);
        check_few_and_many(
            gpu,
            |p| {
                p.softcap = Some(2.0);
                p.alibi_slopes = Some(slopes(p));
                p.sinks = Some(sinks(p));
                p.window = Some(20);
            },
            56,
        );
    });
}

#[test]
fn a_fully_masked_row_with_a_sink_has_output_zero_and_the_sink_as_lse() {
    on_every_adapter(|gpu| {
        for queries in [10, 70] {
            let mut masked = case(4, 2, 32, queries, 3);
            masked.problem.lse = true;
            masked.problem.sinks = Some(vec![0.25; 4]);
            check(gpu, &masked, 57);
        }
    });
}

#[test]
fn a_bias_may_broadcast_over_batch_heads_and_queries() {
    use sunfleck::attention::BiasLayout;
    on_every_adapter(|gpu| {
        for (batch_stride, head_stride, query_stride) in [
            (0, 0, 0),
            (0, 300, 0),
            (0, 0, 300),
            (3 * 6 * 300, 3 * 300, 300),
        ] {
            let mut biased = case(6, 2, 32, 3, 290);
            biased.problem.batch = 2;
            biased.problem.lse = true;
            biased.sequences = vec![(3, 290), (2, 50)];
            biased.problem.bias = Some(BiasLayout {
                batch_stride,
                head_stride,
                query_stride,
            });
            check(gpu, &biased, 58);
        }
        let dense = |p: &mut AttentionProblem| {
            p.mask = Mask::None;
            p.bias = Some(BiasLayout {
                batch_stride: 0,
                head_stride: p.max_queries * p.max_keys,
                query_stride: p.max_keys,
            });
        };
        check_few_and_many(gpu, dense, 59);
    });
}
