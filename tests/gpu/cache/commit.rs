//! The commit of accepted paths, for batches of sequences, against the twin.

use std::collections::BTreeMap;

use sunfleck::{
    attention::Element,
    cache::{CacheShape, Commit, KvCache, PoolOptions, SequenceId},
    gpu::BufferView,
    reference::cache as twin,
};

use super::memory::{HALVES, fill, in_small_bindings, layer, row, slot};
use crate::{
    adapters::{TestGpu, on_every_adapter},
    full,
    random::Random,
};

const SEQUENCES: u32 = 24;
const CAPACITY: u32 = 112;
const MAX_NODES: u32 = 72;
const STRIDE: u32 = 2 + 2 * MAX_NODES + 3;

/// Accepted nodes of a draft of `nodes`: a chain, a random path, or one with a long run far back.
fn random_path(random: &mut Random, nodes: u32, past: u32, page: u32) -> Vec<u32> {
    let mut path = vec![0];
    match random.below(4) {
        0 => path.extend(1..1 + random.below(nodes)),
        1 => {
            let run = 1 + random.below(8);
            path.extend((1..nodes).filter(|node| node % run == run - 1 && random.below(4) > 0));
        }
        // A branch that starts so that whole pages keep their places.
        _ => {
            let shift = page * (1 + random.below(3));
            let from = 1 + shift;
            path.extend((from..nodes).take(random.below(60) as usize));
            let _ = past;
        }
    }
    path.retain(|node| *node < nodes);
    path
}

fn check(gpu: &TestGpu, shape: CacheShape, page: Option<u32>, rounds: u64) -> usize {
    let cache = match page {
        None => KvCache::contiguous(&gpu.gpu, shape, SEQUENCES, CAPACITY).unwrap(),
        Some(page_tokens) => {
            let pool = PoolOptions {
                page_tokens,
                pages: SEQUENCES * CAPACITY.div_ceil(page_tokens),
            };
            KvCache::paged(&gpu.gpu, shape, SEQUENCES, CAPACITY, pool).unwrap()
        }
    };
    let lengths = gpu
        .gpu
        .storage("sequences", u64::from(SEQUENCES) * 16)
        .unwrap();
    let outcome = gpu
        .gpu
        .storage("outcome", u64::from(SEQUENCES * STRIDE) * 4)
        .unwrap();
    let view = BufferView::whole(&lengths);
    let commit = Commit::new(&gpu.gpu, &cache, view, &outcome, STRIDE, MAX_NODES);
    let commit = pollster::block_on(commit).unwrap();
    let mut exchanged = 0;
    for round in 0..rounds {
        let mut random = Random(round * 31 + u64::from(shape.head_dim));
        let mut pager = page.map(|_| cache.pager().unwrap());
        let mut ids: Vec<SequenceId> = Vec::new();
        let (mut steps, mut words) = (Vec::new(), Vec::new());
        let mut paths = BTreeMap::new();
        for sequence in 0..SEQUENCES {
            let past = random.below(CAPACITY - MAX_NODES);
            let nodes = 1 + random.below(MAX_NODES);
            let path = random_path(&mut random, nodes, past, page.unwrap_or(16));
            // Some sequences take no part; their outcome is an old one.
            let rows = if random.below(8) == 0 { 0 } else { nodes };
            steps.push([rows, past, 0, 0]);
            let mut own = vec![0u32; STRIDE as usize];
            own[0] = path.len() as u32 - 1;
            own[2..2 + path.len()].copy_from_slice(&path);
            words.extend(own);
            if rows > 0 {
                paths.insert(sequence, path);
            }
            if let Some(pager) = &mut pager {
                let id = pager.create().unwrap();
                pager.reserve(&[(id, past)]).unwrap();
                pager.commit(id, past).unwrap();
                pager.reserve(&[(id, rows)]).unwrap();
                ids.push(id);
            }
        }
        if let Some(pager) = &pager {
            cache.write_page_table(&gpu.gpu, pager).unwrap();
        }
        fill(gpu, &cache, round as u32);
        let before = HALVES.map(|half| [0, shape.layers - 1].map(|l| layer(gpu, &cache, l, half)));
        let queue = gpu.gpu.queue();
        queue.write_buffer(&lengths, 0, bytemuck::cast_slice(&steps));
        queue.write_buffer(&outcome, 0, bytemuck::cast_slice(&words));
        gpu.run(|pass| commit.encode(pass));
        let after = HALVES.map(|half| [0, shape.layers - 1].map(|l| layer(gpu, &cache, l, half)));

        let old = pager.clone();
        for (sequence, step) in steps.iter().enumerate() {
            let Some(path) = paths.get(&(sequence as u32)) else {
                continue;
            };
            if let Some(pager) = &mut pager {
                let pages = pager.pages_of(ids[sequence]).unwrap().to_vec();
                pager.commit_path(ids[sequence], path).unwrap();
                let now = pager.pages_of(ids[sequence]).unwrap();
                exchanged += usize::from(!pages.starts_with(now));
            }
            let past = step[1];
            // The twin works on the sequence's tokens in order, as slots of the cache before.
            let tokens: Vec<Option<usize>> = (0..past + step[0])
                .map(|token| slot(&cache, old.as_ref(), sequence, token))
                .collect();
            let twin_shape = twin::CacheShape {
                outer: 1,
                slots: tokens.len(),
                inner: 1,
            };
            let kept = twin::commit(&tokens, &twin_shape, past as usize, path).unwrap();
            for (token, source) in kept.iter().enumerate().take(past as usize + path.len()) {
                let source = source.unwrap();
                let place = slot(&cache, pager.as_ref(), sequence, token as u32).unwrap();
                for half in HALVES {
                    for l in 0..2 {
                        for head in 0..shape.kv_heads as usize {
                            let was = row(&cache, &before[half as usize][l], half, head, source);
                            let is = row(&cache, &after[half as usize][l], half, head, place);
                            assert_eq!(
                                was, is,
                                "{} {shape:?} page {page:?} round {round} sequence {sequence} past {past} \
                                 token {token} path {path:?}",
                                gpu.name
                            );
                        }
                    }
                }
            }
        }
        if let (Some(pager), Some(view)) = (&pager, cache.page_table()) {
            // The GPU's table and the host's agree where there are tokens.
            let table: Vec<u32> = gpu.read(view.buffer);
            let stride = table.len() / SEQUENCES as usize;
            for (sequence, id) in ids.iter().enumerate() {
                let pages = pager.pages_of(*id).unwrap();
                assert_eq!(
                    table[sequence * stride..][..pages.len()],
                    *pages,
                    "{}",
                    gpu.name
                );
            }
        }
    }
    exchanged
}

#[test]
fn commit_keeps_the_accepted_paths_of_a_batch() {
    on_every_adapter(|gpu| {
        let rounds = match (full(), gpu.is_slow()) {
            (true, _) => 60,
            (false, true) => 2,
            (false, false) => 6,
        };
        let shape = |dim, element| CacheShape::new(3, 2, dim, element);
        // Rows of an odd number of words, of two and of four.
        check(gpu, shape(64, Element::Q8), None, rounds);
        check(gpu, shape(20, Element::F16), None, rounds);
        check(gpu, shape(8, Element::F32), None, rounds);
        let mut exchanged = check(gpu, shape(8, Element::F32), Some(16), rounds);
        exchanged += check(gpu, shape(64, Element::Q4), Some(16), rounds);
        assert!(exchanged > 0, "{}: no page moved whole", gpu.name);
        check(gpu, shape(8, Element::Bf16), Some(32), rounds);
        let mixed = CacheShape {
            value_dim: 12,
            value: Element::F16,
            ..shape(8, Element::F32)
        };
        check(gpu, mixed, Some(64), rounds);
        // Layers in several buffers, as where a binding is limited to 128 MiB.
        let limited = |bytes| TestGpu {
            name: format!("{} in bindings of {bytes}", gpu.name),
            gpu: in_small_bindings(gpu, bytes),
        };
        let cache_in = |gpu: &TestGpu| {
            KvCache::contiguous(&gpu.gpu, shape(8, Element::F32), SEQUENCES, CAPACITY).unwrap()
        };
        let two_layers = limited(400_000);
        let cache = cache_in(&two_layers);
        assert_eq!(cache.keys(0).unwrap().buffer, cache.keys(1).unwrap().buffer);
        assert_ne!(cache.keys(0).unwrap().buffer, cache.keys(2).unwrap().buffer);
        // One of a layer's two heads.
        let one_head = limited(100_000);
        assert_eq!(cache_in(&one_head).parts(0).len(), 2);
        for gpu in [two_layers, one_head] {
            check(&gpu, shape(8, Element::F32), None, 1);
            check(&gpu, shape(8, Element::F32), Some(16), 1);
        }
    });
}

#[test]
fn impossible_outcomes_write_nothing_outside_their_sequence() {
    on_every_adapter(|gpu| {
        let shape = CacheShape::new(1, 1, 8, Element::F32);
        let pool = PoolOptions {
            page_tokens: 16,
            pages: 4,
        };
        let cache = KvCache::paged(&gpu.gpu, shape, 2, 32, pool).unwrap();
        let mut pager = cache.pager().unwrap();
        let ids = [pager.create().unwrap(), pager.create().unwrap()];
        pager.reserve(&[(ids[0], 20), (ids[1], 20)]).unwrap();
        cache.write_page_table(&gpu.gpu, &pager).unwrap();
        fill(gpu, &cache, 1);
        let before = HALVES.map(|half| layer(gpu, &cache, 0, half));
        let steps = [[3u32, 18, 0, 0], [0, 0, 0, 0]];
        let lengths = gpu
            .gpu
            .storage_with("sequences", steps.as_flattened())
            .unwrap();
        let stride = 2 + MAX_NODES;
        let mut words = vec![u32::MAX; 2 * stride as usize];
        words[2..6].copy_from_slice(&[0, 500, 3, u32::MAX]);
        let outcome = gpu.gpu.storage_with("outcome", &words).unwrap();
        let view = BufferView::whole(&lengths);
        let commit = Commit::new(&gpu.gpu, &cache, view, &outcome, stride, MAX_NODES);
        let commit = pollster::block_on(commit).unwrap();
        gpu.run(|pass| commit.encode(pass));
        let after = HALVES.map(|half| layer(gpu, &cache, 0, half));
        let own: Vec<usize> = (18..32)
            .filter_map(|token| slot(&cache, Some(&pager), 0, token))
            .collect();
        for half in HALVES {
            for s in (0..64).filter(|s| !own.contains(s)) {
                let was = row(&cache, &before[half as usize], half, 0, s);
                assert_eq!(
                    was,
                    row(&cache, &after[half as usize], half, 0, s),
                    "{} slot {s}",
                    gpu.name
                );
            }
        }
        let table: Vec<u32> = gpu.read(cache.page_table().unwrap().buffer);
        assert_eq!(table, pager.table(), "{}", gpu.name);
    });
}
