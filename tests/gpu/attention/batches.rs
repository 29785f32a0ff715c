//! Several sequences, and several states.

use super::*;

#[test]
fn padded_batch_of_different_lengths_leaks_nothing() {
    on_every_adapter(|gpu| {
        let mut batch = case(6, 2, 32, 4, 300);
        let p = &mut batch.problem;
        p.batch = 3;
        p.lse = true;
        // Head-major keys with a gap after each head and sequence: strided views.
        p.key.head_stride = 300 * 32 + 8;
        p.key.token_stride = 32;
        p.key.batch_stride = 2 * p.key.head_stride + 12;
        batch.sequences = vec![(4, 300), (1, 1), (2, 257)];
        check(gpu, &batch, 9);
    });
}

#[test]
fn a_ragged_batch_has_the_bits_of_its_sequences_alone() {
    use sunfleck::attention::RaggedTotals;
    on_every_adapter(|gpu| {
        let (heads, kv_heads, dim) = (4usize, 2usize, 32usize);
        let sequences = [(3u32, 40u32), (1, 7), (5, 300)];
        let totals = RaggedTotals {
            queries: 9,
            keys: 347,
        };
        let mut random = Random(61);
        let q = random.normals(9 * heads * dim);
        let k = random.normals(347 * kv_heads * dim);
        let v = random.normals(347 * kv_heads * dim);
        let mut ragged = AttentionProblem::new(heads as u32, kv_heads as u32, dim as u32, 5, 300);
        ragged.batch = 3;
        ragged.ragged = Some(totals);
        let (together, _) = run(gpu, &ragged, &sequences, [&q, &k, &v], None);
        let (mut q_at, mut k_at) = (0, 0);
        for (queries, keys) in sequences {
            let one =
                AttentionProblem::new(heads as u32, kv_heads as u32, dim as u32, queries, keys);
            let (q_len, k_len) = (
                queries as usize * heads * dim,
                keys as usize * kv_heads * dim,
            );
            let inputs = [
                &q[q_at..][..q_len],
                &k[k_at..][..k_len],
                &v[k_at..][..k_len],
            ];
            let (alone, _) = run(gpu, &one, &[(queries, keys)], inputs, None);
            assert_eq!(together[q_at..][..q_len], alone, "{}", gpu.name);
            q_at += q_len;
            k_at += k_len;
        }
    });
}

#[test]
fn merged_states_equal_attention_over_all_keys() {
    use sunfleck::attention::{MergeStatesIo, MergeStatesProblem};
    on_every_adapter(|gpu| {
        let (heads, dim, queries) = (3usize, 40usize, 4usize);
        // Shares of the keys, one of them empty for every row.
        let shares = [20usize, 0, 300, 7];
        let keys: usize = shares.iter().sum();
        let rows = queries * heads;
        let mut random = Random(70);
        let q = random.normals(rows * dim);
        let k = random.normals(keys * heads * dim);
        let v = random.normals(keys * heads * dim);
        let whole_problem = |keys: usize| {
            let mut p = AttentionProblem::new(
                heads as u32,
                heads as u32,
                dim as u32,
                4,
                keys.max(1) as u32,
            );
            p.mask = Mask::None;
            p.lse = true;
            p
        };
        let (mut outputs, mut lses, mut at) = (Vec::new(), Vec::new(), 0);
        for share in shares {
            if share == 0 {
                // A state without keys may hold anything as its output.
                outputs.extend(vec![f32::NAN; rows * dim]);
                lses.extend(vec![NO_KEY; rows]);
                continue;
            }
            let range = at * heads * dim..(at + share) * heads * dim;
            let inputs = [&q[..], &k[range.clone()], &v[range]];
            let lengths = [(queries as u32, share as u32)];
            let (output, lse) = run(gpu, &whole_problem(share), &lengths, inputs, None);
            outputs.extend(output);
            lses.extend(lse);
            at += share;
        }
        let problem = MergeStatesProblem {
            states: shares.len() as u32,
            rows: rows as u32,
            value_dim: dim as u32,
            element: Element::F32,
        };
        let prepared = pollster::block_on(gpu.gpu.prepare_merge_states(&problem)).unwrap();
        let outputs = gpu.gpu.storage_with("outputs", &outputs).unwrap();
        let lses = gpu.gpu.storage_with("lses", &lses).unwrap();
        let output = gpu.gpu.storage("output", (rows * dim * 4) as u64).unwrap();
        let lse = gpu.gpu.storage("lse", rows as u64 * 4).unwrap();
        let merge = prepared
            .bind(&MergeStatesIo {
                outputs: BufferView::whole(&outputs),
                lses: BufferView::whole(&lses),
                output: BufferView::whole(&output),
                lse: BufferView::whole(&lse),
            })
            .unwrap();
        gpu.run(|pass| merge.encode(pass));
        let shape = AttentionShape {
            batch: 1,
            query_heads: heads,
            kv_heads: heads,
            queries,
            keys,
            head_dim: dim,
            value_dim: dim,
        };
        let options = AttentionOptions::default();
        let expected = twin::attention(&shape, &q, &k, &v, &options).unwrap();
        compare(
            &gpu.name,
            &gpu.read::<f32>(&output),
            &expected.output,
            Tolerance::F32,
        )
        .unwrap();
        compare(
            &gpu.name,
            &gpu.read::<f32>(&lse),
            &expected.lse,
            Tolerance::F32,
        )
        .unwrap();
    });
}
