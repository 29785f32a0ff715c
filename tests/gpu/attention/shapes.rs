//! Heads, head sizes, lengths and storage types.

use sunfleck::gpu::AdapterClass;

use super::*;

#[test]
fn heads_and_groups_of_every_size() {
    on_every_adapter(|gpu| {
        for (heads, kv_heads) in [(1, 1), (3, 1), (9, 3), (4, 4), (8, 1), (12, 1)] {
            for queries in [1, 2, 5] {
                check(gpu, &case(heads, kv_heads, 64, queries, 70), 1);
            }
        }
    });
}

#[test]
fn head_sizes_with_tails() {
    on_every_adapter(|gpu| {
        for dim in [4, 32, 40, 80, 128, 256] {
            check(gpu, &case(2, 1, dim, 3, 37), 2);
        }
        let mut odd = case(2, 1, 64, 3, 37);
        odd.problem.value_dim = 20;
        odd.problem.value = TensorLayout::token_major(Element::F32, 37, 1, 20);
        odd.problem.output = TensorLayout::token_major(Element::F32, 3, 2, 20);
        check(gpu, &odd, 3);
    });
}

#[test]
fn key_counts_around_tiles_and_spans() {
    on_every_adapter(|gpu| {
        for keys in [1, 7, 8, 9, 31, 33, 255, 256, 257, 600] {
            check(gpu, &case(3, 1, 32, 1, keys), 4);
        }
        check(gpu, &case(3, 1, 32, 75, 300), 5);
    });
}

#[test]
fn storage_types_in_any_mix() {
    on_every_adapter(|gpu| {
        for mix in 0..9 {
            // Every pair of types meets in query and key, and in key and output.
            let [query, key, value, output] =
                [mix, mix / 3, 2 * mix, mix / 3 + mix].map(|i| Element::FLOATS[i % 3]);
            let mut mixed = case(6, 2, 40, 3, 50);
            let p = &mut mixed.problem;
            p.query.element = query;
            p.key.element = key;
            p.value.element = value;
            p.output.element = output;
            check(gpu, &mixed, 6);
        }
    });
}

#[test]
fn prompts_of_many_rows_take_the_prefill_kernel() {
    on_every_adapter(|gpu| {
        // Tails in rows, keys, head and value; fewer keys than queries; several sequences.
        for (heads, kv_heads, dim, queries, keys) in [
            (9, 3, 64, 40, 40),
            (2, 1, 40, 70, 131),
            (4, 4, 128, 65, 97),
            (3, 1, 20, 33, 9),
        ] {
            let mut many = case(heads, kv_heads, dim, queries, keys);
            many.problem.lse = true;
            let explained = gpu.gpu.plan_attention(&many.problem).unwrap().explain();
            let capabilities = gpu.gpu.capabilities();
            let family = match (capabilities.class, capabilities.subgroups) {
                (AdapterClass::Software, Some(_)) => Some("\nattention/prefill_lanes/"),
                (AdapterClass::Software, None) => None,
                _ => Some("\nattention/prefill/"),
            };
            let got = ["\nattention/prefill/", "\nattention/prefill_lanes/"]
                .into_iter()
                .find(|family| explained.contains(family));
            assert_eq!(got, family, "{explained}");
            check(gpu, &many, 40);
            many.problem.mask = Mask::None;
            check(gpu, &many, 41);
        }
        let mut batch = case(6, 2, 36, 50, 90);
        batch.problem.batch = 2;
        batch.problem.value_dim = 72;
        batch.problem.value = TensorLayout::head_major(Element::F16, 90, 2, 72);
        batch.problem.output = TensorLayout::token_major(Element::F16, 50, 6, 72);
        batch.sequences = vec![(50, 90), (13, 33)];
        check(gpu, &batch, 42);
    });
}

#[test]
fn every_page_size_reads_narrow_and_wide_values() {
    on_every_adapter(|gpu| {
        // Compiling is most of the time; pages of 32 have a block shape of their own.
        let all = [(32, 4), (32, 32), (32, 128), (128, 20), (256, 4)];
        let cases = if crate::full() { &all[..] } else { &all[..1] };
        for (page, value_dim) in cases.iter().copied() {
            let line = "queries=75 keys=113 placement=page16 mask=causal";
            let mut recipe = super::axes::Case::parse(line).recipe();
            recipe.placement = super::recipe::Placement::Paged(page);
            recipe.value_dim = value_dim;
            check(gpu, &recipe.case(), 1);
        }
    });
}
