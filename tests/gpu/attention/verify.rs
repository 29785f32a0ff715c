//! A case compared with its twin.

use sunfleck::{
    attention::{AttentionProblem, Mask, NO_KEY},
    reference::{
        attention::{self as twin, AttentionOptions, AttentionShape},
        compare::{Tolerance, compare},
    },
};

use super::{
    case::{Case, Inputs, Outputs, case},
    recipe::left_out,
    tensors,
};
use crate::{adapters::TestGpu, full, random::Random};

/// Multiplications and additions of the twin for one case: above it, it computes some of the rows.
fn twin_budget() -> usize {
    if full() { 60_000_000 } else { 12_000_000 }
}

impl Case {
    /// Compares with the twin on inputs from `seed`.
    pub fn verify(&self, gpu: &TestGpu, seed: u64) -> Result<(), String> {
        self.verify_inputs(gpu, &self.inputs(seed))
    }

    /// As [`Self::verify`] with inputs of the caller's choice.
    pub fn verify_inputs(&self, gpu: &TestGpu, inputs: &Inputs) -> Result<(), String> {
        let got = self.run(gpu, inputs)?;
        for sequence in 0..self.sequences.len() {
            self.verify_sequence(sequence, inputs, &got)
                .map_err(|error| format!("{}: sequence {sequence}: {error}", gpu.name))?;
        }
        Ok(())
    }

    fn verify_sequence(
        &self,
        sequence: usize,
        inputs: &Inputs,
        got: &Outputs,
    ) -> Result<(), String> {
        let p = &self.problem;
        let [q_at, k_at, queries, keys] = self.places()[sequence];
        let shape = AttentionShape {
            batch: 1,
            query_heads: p.query_heads as usize,
            kv_heads: p.kv_heads as usize,
            queries,
            keys,
            head_dim: p.head_dim as usize,
            value_dim: p.value_dim as usize,
        };
        let (heads, dk, dv) = (shape.query_heads, shape.head_dim, shape.value_dim);
        let q = &inputs.q[q_at * heads * dk..][..queries * heads * dk];
        let k = &inputs.k[k_at * shape.kv_heads * dk..][..keys * shape.kv_heads * dk];
        let v = &inputs.v[k_at * shape.kv_heads * dv..][..keys * shape.kv_heads * dv];

        let past = keys.wrapping_sub(queries);
        let tree = self.trees.get(sequence);
        let in_tree = |_: usize, query: usize, key: usize| match key.checked_sub(past) {
            Some(node) => tree.is_some_and(|tree| tree.sees(query, node)),
            None => true,
        };
        let depth = |node: usize| tree.map_or(0, |tree| tree.depths()[node] as usize);
        let tree_distance = |_: usize, query: usize, key: usize| {
            let key_position = key.checked_sub(past).map_or(key, |node| past + depth(node));
            (past + depth(query)).abs_diff(key_position)
        };
        let prefixed = |_: usize, query: usize, key: usize| {
            let Mask::Prefix { keys: prefix } = p.mask else {
                return false;
            };
            let prefix = prefix - left_out(p);
            key < prefix as usize || key + queries <= query + keys
        };
        let wide = |values: &Option<Vec<f32>>| -> Option<Vec<f64>> {
            Some(values.as_ref()?.iter().map(|v| f64::from(*v)).collect())
        };
        let (slopes, sinks) = (wide(&p.alibi_slopes), wide(&p.sinks));
        let bias = self.dense_bias(sequence, inputs);
        let options = AttentionOptions {
            scale: Some(f64::from(p.scale)),
            mask: match p.mask {
                Mask::None => twin::Mask::None,
                Mask::Prefix { .. } => twin::Mask::Visible(&prefixed),
                Mask::Tree { .. } => twin::Mask::Tree {
                    visible: &in_tree,
                    distance: &tree_distance,
                },
                _ => twin::Mask::Causal,
            },
            softcap: p.softcap.map(f64::from),
            window: p.window.map(|window| window as usize),
            alibi_slopes: slopes.as_deref(),
            sinks: sinks.as_deref(),
            bias: bias.as_deref(),
            ..Default::default()
        };
        let rows = sampled_rows(&shape);
        let expected = twin::attention_rows(&shape, q, k, v, &options, &rows)
            .map_err(|error| error.to_string())?;

        // A row of many keys has small values: rows of few keys must not hide its error.
        for (at, row) in rows.iter().enumerate() {
            let what = || format!("query {} head {}", row / heads, row % heads);
            let expected = &expected.output[at * dv..][..dv];
            // Twin and kernel read the same stored inputs, so what a naive kernel can't avoid is
            // to round its output; that it rounds its scores too is not held in its favour.
            let naive = tensors::storage(p.output.element).round_all(expected);
            let tolerance = Tolerance::twice_naive(&naive, expected);
            let got = &got.output[(q_at * heads + row) * dv..][..dv];
            // A device may flush subnormal numbers: what a sink or ALiBi left of a row where all
            // weights are near 2^-126 has no more digits.
            let flushed =
                |(got, expected): (&f32, &f64)| (f64::from(*got) - expected).abs() < 1e-34;
            if got.iter().zip(expected).all(flushed) {
                continue;
            }
            compare(&what(), got, expected, tolerance).map_err(|error| error.to_string())?;
        }
        if let Some(value) = got.output[q_at * heads * dv..][..queries * heads * dv]
            .iter()
            .find(|value| !value.is_finite())
        {
            return Err(format!("an output is {value}"));
        }
        if p.lse {
            let first = sequence * p.max_queries as usize * heads;
            let got: Vec<f32> = rows
                .iter()
                .map(|row| match got.lse[first + row] {
                    NO_KEY => f32::NEG_INFINITY,
                    lse => lse,
                })
                .collect();
            compare("LSE", &got, &expected.lse, Tolerance::F32).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// The bias of one sequence as `[query_head, query, key]`.
    fn dense_bias(&self, sequence: usize, inputs: &Inputs) -> Option<Vec<f64>> {
        let layout = self.problem.bias?;
        let values = inputs.bias.as_ref()?;
        let [_, _, queries, keys] = self.places()[sequence];
        let mut dense = Vec::new();
        for head in 0..self.problem.query_heads as usize {
            for query in 0..queries {
                let at = sequence * layout.batch_stride as usize
                    + head * layout.head_stride as usize
                    + query * layout.query_stride as usize;
                dense.extend(values[at..at + keys].iter().map(|v| f64::from(*v)));
            }
        }
        Some(dense)
    }
}

/// All rows, where the twin can afford them; else the first, the last, and some of each head
/// between.
fn sampled_rows(shape: &AttentionShape) -> Vec<usize> {
    let rows = shape.queries * shape.query_heads;
    let work = (shape.keys * (shape.head_dim + shape.value_dim)).max(1);
    let affordable = (twin_budget() / work).max(shape.query_heads + 2);
    if rows <= affordable {
        return (0..rows).collect();
    }
    let mut random = Random(rows as u64);
    let mut sampled = vec![0, rows - 1];
    sampled.extend((2..affordable).map(|i| {
        let query = random.below(shape.queries as u32) as usize;
        query * shape.query_heads + i % shape.query_heads
    }));
    sampled.sort_unstable();
    sampled.dedup();
    sampled
}

/// Fails the test where `case` differs from its twin.
pub fn check(gpu: &TestGpu, case: &Case, seed: u64) {
    if let Err(error) = case.verify(gpu, seed) {
        panic!("{}: {error}\n{case:?}", gpu.name);
    }
}

/// Both kernels: few rows, and enough for the prefill kernel.
pub fn check_few_and_many(gpu: &TestGpu, change: impl Fn(&mut AttentionProblem), seed: u64) {
    for (heads, kv_heads, dim, queries, keys) in [(6, 2, 32, 3, 270), (3, 1, 40, 40, 75)] {
        let mut changed = case(heads, kv_heads, dim, queries, keys);
        changed.problem.lse = true;
        change(&mut changed.problem);
        check(gpu, &changed, seed);
    }
}
