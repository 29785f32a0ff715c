//! What a call keeps in memory.

use super::*;

#[test]
fn workspace_does_not_grow_with_queries_times_keys() {
    on_every_adapter(|gpu| {
        let bytes = |queries: u32, keys: u32, invariant: bool| {
            let mut p = AttentionProblem::new(8, 2, 64, queries, keys);
            p.invariant = invariant;
            gpu.gpu.plan_attention(&p).unwrap().workspace_bytes()
        };
        for invariant in [true, false] {
            assert!(bytes(4096, 131_072, invariant) <= 16 << 20);
            assert_eq!(
                bytes(4096, 65_536, invariant),
                bytes(16_384, 65_536, invariant)
            );
            // One query over 256 keys: one state a head.
            assert_eq!(bytes(1, 256, invariant), 8 * (64 + 4) * 4);
        }
    });
}

#[test]
fn a_call_with_512_mib_of_scores_takes_17_mib() {
    on_every_adapter(|gpu| {
        let gpu = &gpu.afresh(); // other tests run meanwhile
        for invariant in [true, false] {
            let (queries, keys, dim) = (2048, 65_536, 4u32);
            let mut p = AttentionProblem::new(1, 1, dim, queries, keys);
            p.invariant = invariant;
            let plan = gpu.gpu.plan_attention(&p).unwrap();
            let prepared = pollster::block_on(plan.prepare()).unwrap();
            let buffer = |label: &str, tokens: u32| {
                let bytes = u64::from(tokens * dim) * 4;
                gpu.gpu.storage(label, bytes).unwrap()
            };
            let (query, output) = (buffer("q", queries), buffer("o", queries));
            let (key, value) = (buffer("k", keys), buffer("v", keys));
            let lengths = gpu.gpu.storage("lengths", 16).unwrap();
            let before = gpu.gpu.allocated_bytes();
            let workspace = prepared.workspace().unwrap();
            let io = AttentionIo {
                query: (&query).into(),
                key: (&key).into(),
                value: (&value).into(),
                output: (&output).into(),
                lengths: (&lengths).into(),
                lse: None,
                tree: None,
                pages: None,
                bias: None,
            };
            let call = prepared.bind(&workspace, &io).unwrap();
            // All sequences are empty: what counts is what is allocated, also by recording.
            gpu.run(|pass| call.encode(pass, 1, 256));
            let took = gpu.gpu.allocated_bytes() - before;
            assert!(took <= 17 << 20, "{}: {took} bytes", gpu.name);
        }
    });
}

#[test]
fn queries_take_turns_in_a_workspace_that_is_too_small_for_all() {
    on_every_adapter(|gpu| {
        // A capacity of 64 spans, of which two are used.
        let mut turns = case(48, 1, 64, 30, 16_384);
        turns.problem.invariant = true;
        turns.problem.lse = true;
        let plan = gpu.gpu.plan_attention(&turns.problem).unwrap();
        let one = 48 * (64 + 4) * 4 * 64; // a query's states, in bytes
        assert!(plan.workspace_bytes() < 30 * one, "room for all of them");
        turns.sequences = vec![(30, 270)];
        check(gpu, &turns, 80);
    });
}

#[test]
fn few_queries_take_turns_beside_a_kernel_for_many() {
    on_every_adapter(|gpu| {
        // A capacity of 256 spans and so many queries that there is a kernel for many rows. Few rows go past it.
        let mut turns = case(64, 64, 4, 66, 65_536);
        turns.problem.lse = true;
        turns.problem.pages = Some(Pages {
            page_tokens: 256,
            pool_pages: 2,
            table_stride: 256,
            first_page: 0,
            first_sequence: 0,
        });
        for layout in [&mut turns.problem.key, &mut turns.problem.value] {
            *layout = TensorLayout {
                element: Element::F32,
                batch_stride: 256 * 4,
                token_stride: 4,
                head_stride: 2 * 256 * 4,
            };
        }
        let plan = gpu.gpu.plan_attention(&turns.problem).unwrap();
        let one = 64 * (4 + 4) * 4 * 256; // a query's states, in bytes
        assert!(plan.workspace_bytes() < 64 * one, "room for all of them");
        for queries in [33, 64, 66] {
            turns.sequences = vec![(queries, 300)];
            check(gpu, &turns, 81);
        }
    });
}

#[test]
fn recording_a_call_allocates_no_buffer() {
    on_every_adapter(|gpu| {
        let gpu = &gpu.afresh(); // other tests run meanwhile
        let p = AttentionProblem::new(4, 2, 64, 100, 600);
        let prepared = pollster::block_on(gpu.gpu.plan_attention(&p).unwrap().prepare()).unwrap();
        let workspace = prepared.workspace().unwrap();
        let buffer = |label: &str, bytes: u64| gpu.gpu.storage(label, bytes).unwrap();
        let (query, output) = (buffer("q", 4 * 100 * 64 * 4), buffer("o", 4 * 100 * 64 * 4));
        let (key, value) = (buffer("k", 2 * 600 * 64 * 4), buffer("v", 2 * 600 * 64 * 4));
        let lengths = buffer("lengths", 16);
        let call = prepared
            .bind(
                &workspace,
                &AttentionIo {
                    query: (&query).into(),
                    key: (&key).into(),
                    value: (&value).into(),
                    output: (&output).into(),
                    lengths: (&lengths).into(),
                    lse: None,
                    tree: None,
                    pages: None,
                    bias: None,
                },
            )
            .unwrap();
        let before = gpu.gpu.allocated_bytes();
        gpu.run(|pass| {
            for queries in [1, 5, 100] {
                call.encode(pass, queries, 600);
            }
        });
        assert_eq!(gpu.gpu.allocated_bytes(), before, "{}", gpu.name);
    });
}
