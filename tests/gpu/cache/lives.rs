//! Random lives of caches: sequences that fork, draft, evict and roll back, with every kernel on the GPU. After
//! each step every sequence must hold its own tokens, and attention must be what the twin computes of them.

use sunfleck::{
    attention::{AttentionProblem, CacheIo, Element, Mask, SharedPrefix, TensorLayout},
    cache::{
        Append, AppendIo, AppendShape, CacheError, CacheShape, Commit, KvCache, PageCopies,
        PoolOptions, RopePairs, RopeShape, SequenceId,
    },
    gpu::BufferView,
    reference::{
        attention::{self as twin, AttentionOptions, AttentionShape},
        compare::{Tolerance, compare},
    },
    tree::{DraftTree, DrawKind, NONE, blob_words},
};

use super::{
    append::{check_stored, rotated},
    memory::{HALVES, in_small_bindings, layer, row, slot, values},
};
use crate::{
    adapters::{TestGpu, on_every_adapter},
    full,
    random::Random,
};

const SEQUENCES: u32 = 3;
const MAX_ROWS: u32 = 72;
const LAYERS: u32 = 2;
const DIMS: [u32; 11] = [4, 20, 32, 40, 64, 72, 80, 96, 112, 128, 256];

/// What one token is, as the projection gave it.
#[derive(Clone)]
struct Token {
    position: u32,
    key: Vec<f32>, // [kv_head, dim], not rotated
    value: Vec<f32>,
}

/// A sequence, at its row of the table.
#[derive(Clone)]
struct Own {
    id: SequenceId,
    tokens: Vec<Token>,
    next: u32, // position
}

/// What a life had in it, so that the test can tell whether it tests anything.
#[derive(Debug, Default)]
struct Seen {
    copies: usize,
    evictions: usize,
    remaps: usize,
    cascades: usize,
    spread: usize, // lives whose layers lie in several buffers
    refusals: usize,
    rows: usize,
}

fn pick<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len() as u32) as usize]
}

/// A chain, a tree, or two branches of which the second keeps the places of whole pages.
fn draft(random: &mut Random, nodes: u32, chain: bool, page: u32) -> DraftTree {
    let (kind, fork) = (random.below(3), page * (1 + random.below(2)) + 1);
    let parents = (0..nodes).map(|node| match node.checked_sub(1) {
        None => NONE,
        Some(last) if chain => last,
        Some(last) => match kind {
            0 => last - random.below(4.min(node)),
            1 if node == fork => 0,
            _ => last,
        },
    });
    let parents = parents.collect();
    DraftTree::from_parents((0..nodes).collect(), parents, DrawKind::TopK).unwrap()
}

fn live(gpu: &TestGpu, seed: u64, rounds: u32, seen: &mut Seen) {
    let gpu = &gpu.afresh();
    let random = &mut Random(seed);
    let key = pick(random, &Element::ALL);
    let shape = CacheShape {
        value_dim: pick(random, &DIMS),
        value: pick(random, &Element::ALL),
        ..CacheShape::new(LAYERS, 1 + random.below(3), pick(random, &DIMS), key)
    };
    let (kv, group) = (shape.kv_heads as usize, 1 + random.below(4) as usize);
    let heads = kv * group;
    let (dim, value_dim) = (shape.head_dim as usize, shape.value_dim as usize);
    let width = (heads + kv) * dim + kv * value_dim;
    // Small pages are where most happens.
    let pages = [Some(16), None, Some(32), Some(16), Some(256), Some(64)];
    let page = pages[(seed % 6) as usize];
    let (ragged, tree) = (seed % 5 == 1, seed % 4 != 3);
    let capacity = 150 + random.below(150);
    let name = format!(
        "{} seed {seed} {shape:?} group {group} page {page:?}",
        gpu.name
    );
    let slots = match page {
        None => SEQUENCES * capacity,
        Some(page) => capacity.div_ceil(page) * SEQUENCES * 2 / 3 * page,
    };
    // Some caches lie in buffers of one or two heads of a layer.
    let row_bytes = HALVES.map(|half| half.row_words(&shape) as u64 * 4);
    let head = row_bytes[0].max(row_bytes[1]) * u64::from(slots);
    let place = match seed % 3 {
        0 => in_small_bindings(gpu, head * (1 + seed / 3 % 2)),
        _ => gpu.gpu.clone(),
    };
    let cache = match page {
        None => KvCache::contiguous(&place, shape, SEQUENCES, capacity),
        Some(page_tokens) => {
            let pages = slots / page_tokens;
            let pool = PoolOptions { page_tokens, pages };
            KvCache::paged(&place, shape, SEQUENCES, capacity, pool)
        }
    };
    let cache = cache.unwrap();
    seen.spread += usize::from(cache.parts(0).len() > 1);
    // A contiguous cache has accounts of its own here only for the identities of its sequences.
    let mut pager = match page {
        Some(_) => cache.pager().unwrap(),
        None => sunfleck::cache::Pager::new(64, 256, SEQUENCES, capacity).unwrap(),
    };
    let storage = |label: &str, words: usize| gpu.gpu.storage(label, words as u64 * 4).unwrap();
    let (s, r) = (SEQUENCES as usize, MAX_ROWS as usize);
    let nodes = MAX_ROWS + 3;
    let stride = 2 + nodes;
    let sequences = storage("sequences", 4 * s);
    let depth = storage("depth", s * r);
    let xs = [0, 1].map(|_| storage("x", s * r * width));
    let blob = storage("tree", s * blob_words(nodes as usize));
    let outcome = storage("outcome", s * stride as usize);
    let output = storage("output", s * r * heads * value_dim);
    let rope = RopeShape {
        rotated: 2 + 2 * random.below(shape.head_dim / 2),
        pairs: pick(random, &RopePairs::ALL),
    };
    let turns = rope.table(4096, 10_000.0, 2.0);
    let turns = gpu.gpu.storage_with("turns", turns.as_flattened()).unwrap();
    let append_shape = AppendShape {
        query_heads: heads as u32,
        rope,
        row_stride: if ragged { 0 } else { MAX_ROWS },
        depth_stride: MAX_ROWS,
        max_rows: MAX_ROWS,
    };
    // In a ragged batch the buffer has room for all rows all the same.
    let appends = [0u32, 1].map(|l| {
        let io = AppendIo {
            sequences: (&sequences).into(),
            depth: (&depth).into(),
            table: (&turns).into(),
            x: (&xs[l as usize]).into(),
        };
        pollster::block_on(Append::new(&gpu.gpu, &cache, l, &append_shape, &io)).unwrap()
    });
    let view = BufferView::whole(&sequences);
    let commit = Commit::new(&gpu.gpu, &cache, view, &outcome, stride, nodes);
    let commit = pollster::block_on(commit).unwrap();
    let copies = page.map(|_| pollster::block_on(PageCopies::new(&gpu.gpu, &cache)).unwrap());
    let mut p = AttentionProblem::new(
        heads as u32,
        shape.kv_heads,
        shape.head_dim,
        MAX_ROWS,
        capacity,
    )
    .with_cache(cache.layout());
    p.batch = SEQUENCES;
    p.value_dim = shape.value_dim;
    p.invariant = random.below(2) == 0;
    p.query = TensorLayout {
        element: Element::F32,
        batch_stride: MAX_ROWS * width as u32,
        token_stride: width as u32,
        head_stride: shape.head_dim,
    };
    p.output = TensorLayout::token_major(Element::F32, MAX_ROWS, heads as u32, shape.value_dim);
    if tree {
        p.mask = Mask::Tree { max_nodes: nodes };
    }
    // Attention finds padded rows only: a ragged batch of queries over a cache is not one of its layouts.
    let prepared = pollster::block_on(gpu.gpu.plan_attention(&p).unwrap().prepare()).unwrap();
    let io = CacheIo {
        query: (&xs[1]).into(),
        output: (&output).into(),
        lengths: view,
        lse: None,
        bias: None,
        tree: tree.then(|| (&blob).into()),
    };
    let workspace = prepared.workspace().unwrap();
    let attention = prepared.bind_cache(&workspace, &cache, 1, &io).unwrap();
    let cascade = (page.is_some() && !ragged)
        .then(|| pollster::block_on(gpu.gpu.plan_cascade(&p).unwrap().prepare()).unwrap());

    let mut owns: Vec<Own> = Vec::new();
    for round in 0..rounds {
        let name = format!("{name} round {round}");
        // Sequences come, fork, roll back, evict and go.
        match random.below(8) {
            0 if owns.len() > 1 => {
                let gone = owns.swap_remove(random.below(owns.len() as u32) as usize);
                pager.free(gone.id).unwrap();
            }
            1..4 if page.is_some() && !owns.is_empty() => {
                let parent = owns[random.below(owns.len() as u32) as usize].clone();
                if let Ok(id) = pager.fork(parent.id) {
                    owns.push(Own { id, ..parent });
                }
            }
            4 if !owns.is_empty() => {
                let who = random.below(owns.len() as u32) as usize;
                let own = &mut owns[who];
                let len = random.below(own.tokens.len() as u32 + 1);
                if (len as usize) < own.tokens.len() {
                    own.tokens.truncate(len as usize);
                    own.next = own.tokens.last().map_or(0, |token| token.position + 1);
                }
                if page.is_some() {
                    pager.truncate(own.id, len).unwrap();
                }
            }
            5 | 6 if page.is_some() && !owns.is_empty() => {
                let who = random.below(owns.len() as u32) as usize;
                let own = &mut owns[who];
                let sinks = random.below(20);
                let dropped = pager.evict(own.id, sinks, random.below(40)).unwrap() as usize;
                let first = sinks.next_multiple_of(page.unwrap()) as usize;
                if dropped > 0 {
                    seen.evictions += 1;
                    own.tokens.drain(first..first + dropped);
                }
            }
            _ => {}
        }
        if owns.len() < 2 {
            let parent = owns.first().filter(|_| page.is_some()).cloned();
            let own = match parent.filter(|_| random.below(4) > 0) {
                Some(parent) => Own {
                    id: pager.fork(parent.id).unwrap(),
                    ..parent
                },
                None => Own {
                    id: pager.create().unwrap(),
                    tokens: vec![],
                    next: 0,
                },
            };
            owns.push(own);
        }
        // Rows of this step, and a draft for each; some sequences have none.
        let mut trees = Vec::new();
        for own in &owns {
            let room = capacity - own.tokens.len() as u32;
            let rows = match random.below(5) {
                0 => 0,
                1 => 1.min(room),
                _ => (1 + random.below(MAX_ROWS)).min(room),
            };
            let drafted = (rows > 0).then(|| draft(random, rows, !tree, page.unwrap_or(16)));
            trees.push(drafted);
        }
        let rows_of = |tree: &Option<DraftTree>| tree.as_ref().map_or(0, |tree| tree.len() as u32);
        let mut list = vec![];
        if page.is_some() {
            let requests: Vec<_> = (owns.iter().zip(&trees))
                .map(|(own, tree)| (own.id, rows_of(tree)))
                .collect();
            let before = format!("{pager:?}");
            match pager.reserve(&requests) {
                Ok(copies) => list = copies,
                Err(CacheError::OutOfPages { .. }) => {
                    assert_eq!(format!("{pager:?}"), before, "{name}");
                    seen.refusals += 1;
                    // Somebody has to go.
                    for own in owns.drain(1..) {
                        pager.free(own.id).unwrap();
                    }
                    continue;
                }
                Err(error) => panic!("{name}: {error}"),
            }
            seen.copies += list.len();
            cache.write_page_table(&gpu.gpu, &pager).unwrap();
        }
        let mut steps = vec![[0u32; 4]; s];
        let (mut first, mut depths) = (0, vec![0; s * r]);
        let mut blobs = vec![0u32; s * blob_words(nodes as usize)];
        let mut outcomes = vec![0u32; s * stride as usize];
        let mut paths = vec![];
        let mut starts = vec![];
        for (own, tree) in owns.iter().zip(&trees) {
            let at = own.id.slot() as usize;
            let len = own.tokens.len() as u32;
            let start = if ragged { first } else { 0 };
            let evicted = own.next - len;
            steps[at] = [rows_of(tree), len, start, evicted];
            starts.push(if ragged { first as usize } else { at * r });
            first += rows_of(tree);
            let Some(tree) = tree else {
                paths.push(vec![]);
                continue;
            };
            depths[at * r..][..tree.len()].copy_from_slice(tree.depths());
            let words = tree.blob(nodes as usize).unwrap();
            blobs[at * blob_words(nodes as usize)..][..words.len()].copy_from_slice(&words);
            // Mostly deep nodes: sequences are to grow.
            let last = tree.len() as u32 - 1;
            let node = last - random.below(last / 4 + 1);
            let path = tree.path_to(node as usize).unwrap();
            let words = &mut outcomes[at * stride as usize..];
            words[0] = path.len() as u32 - 1;
            words[2..2 + path.len()].copy_from_slice(&path);
            paths.push(path);
        }
        if page.is_some() {
            for own in &owns {
                let [rows, ..] = steps[own.id.slot() as usize];
                let step = pager.step(own.id, rows, 0).unwrap();
                assert_eq!(step[1] + step[3], own.next, "{name}");
            }
        }
        let x = random.normals(s * r * width);
        let write = |buffer: &sunfleck::wgpu::Buffer, bytes: &[u8]| {
            gpu.gpu.queue().write_buffer(buffer, 0, bytes);
        };
        write(&sequences, bytemuck::cast_slice(&steps));
        write(&depth, bytemuck::cast_slice(&depths));
        write(&blob, bytemuck::cast_slice(&blobs));
        write(&outcome, bytemuck::cast_slice(&outcomes));
        xs.iter()
            .for_each(|buffer| write(buffer, bytemuck::cast_slice(&x)));
        gpu.run(|pass| {
            if let Some(copies) = &copies {
                copies.encode(&gpu.gpu, pass, &list).unwrap();
            }
            for append in &appends {
                append.encode(pass, MAX_ROWS);
            }
            attention.encode(pass, MAX_ROWS, capacity);
        });
        let got_x: Vec<f32> = gpu.read(&xs[1]);
        let mut outputs = vec![gpu.read::<f32>(&output)];
        let ids: Vec<_> = (owns.iter().zip(&trees))
            .filter(|(_, tree)| tree.is_some())
            .map(|(own, _)| own.id)
            .collect();
        let tokens = pager.shared_prefix(&ids).unwrap();
        if let (Some(cascade), true) = (&cascade, tokens > 0 && tokens < capacity) {
            seen.cascades += 1;
            let sequence = ids[0].slot();
            let shared = SharedPrefix { tokens, sequence };
            let call = cascade.bind_cache(shared, &cache, 1, &io).unwrap();
            gpu.run(|pass| call.encode(pass, MAX_ROWS, capacity));
            outputs.push(gpu.read(&output));
        }
        // Every draft's attention, before the commit.
        let stored = HALVES.map(|half| layer(gpu, &cache, 1, half));
        let accounts = page.map(|_| &pager);
        for (own, tree) in owns.iter().zip(&trees).filter(|_| !ragged) {
            let Some(tree) = tree else { continue };
            let at = own.id.slot() as usize;
            let (queries, past) = (tree.len(), own.tokens.len());
            let cache = &cache;
            let kept = |half: super::memory::Half| -> Vec<f32> {
                let tokens = (0..past + queries).flat_map(|token| {
                    let place = slot(cache, accounts, at, token as u32).unwrap();
                    let words = &stored[half as usize];
                    let (element, dim) = (half.element(&shape), half.dim(&shape));
                    let row = move |head| row(cache, words, half, head, place);
                    (0..kv).flat_map(move |head| values(element, row(head), dim))
                });
                tokens.collect()
            };
            let [k, v] = HALVES.map(kept);
            let q: Vec<f32> = (got_x[at * r * width..].chunks(width).take(queries))
                .flat_map(|row| &row[..heads * dim])
                .copied()
                .collect();
            let visible =
                |_: usize, query: usize, key: usize| key < past || tree.sees(query, key - past);
            let options = AttentionOptions {
                mask: twin::Mask::Visible(&visible),
                ..Default::default()
            };
            let shape = AttentionShape {
                batch: 1,
                query_heads: heads,
                kv_heads: kv,
                queries,
                keys: past + queries,
                head_dim: dim,
                value_dim,
            };
            let expected = twin::attention(&shape, &q, &k, &v, &options)
                .unwrap()
                .output;
            for got in &outputs {
                let got = &got[at * r * heads * value_dim..][..expected.len()];
                compare(&name, got, &expected, Tolerance::F32).unwrap();
            }
        }
        gpu.run(|pass| commit.encode(pass));
        for (i, (own, path)) in owns.iter_mut().zip(&paths).enumerate() {
            if let Some(page) = page {
                let past = own.tokens.len() as u32;
                seen.remaps += sunfleck::cache::moved_pages(path, past, page).len();
                pager.commit_path(own.id, path).unwrap();
            }
            seen.rows += path.len();
            for (d, node) in (0..).zip(path) {
                let x = &x[(starts[i] + *node as usize) * width..][..width];
                let keys = heads * dim;
                own.tokens.push(Token {
                    position: own.next + d,
                    key: x[keys..][..kv * dim].to_vec(),
                    value: x[keys + kv * dim..].to_vec(),
                });
            }
            own.next += path.len() as u32;
        }
        // Every committed token, in both layers.
        for l in 0..LAYERS {
            let stored = HALVES.map(|half| layer(gpu, &cache, l, half));
            for own in &owns {
                for (t, token) in (0..).zip(&own.tokens) {
                    let accounts = page.map(|_| &pager);
                    let place = slot(&cache, accounts, own.id.slot() as usize, t).unwrap();
                    for head in 0..kv {
                        let key = &token.key[head * dim..][..dim];
                        let key = rotated(key, token.position, &rope, shape.rotate_keys);
                        let value = &token.value[head * value_dim..][..value_dim];
                        let value = value.iter().map(|v| f64::from(*v)).collect();
                        for (half, expected) in HALVES.into_iter().zip([key, value]) {
                            let words = row(&cache, &stored[half as usize], half, head, place);
                            let (element, dim) = (half.element(&shape), half.dim(&shape));
                            let got = values(element, words, dim);
                            check_stored(&name, element, &got, &expected);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_sequence_of_a_random_life_reads_its_own_tokens() {
    on_every_adapter(|gpu| {
        // Each life has its own kernels, and compiling them is most of the time.
        let lives = match (full(), gpu.is_slow() || gpu.compiles_slowly()) {
            (true, false) => 40,
            (true, true) => 8,
            (false, false) => 2,
            (false, true) => 0,
        };
        let seed = std::env::var("SUNFLECK_SEED").map_or(2, |seed| seed.parse().unwrap());
        let mut seen = Seen::default();
        for life in 0..lives {
            let rounds = if gpu.is_slow() { 4 } else { 8 };
            live(gpu, seed * 1000 + life, rounds, &mut seen);
        }
        assert!(lives == 0 || seen.rows > 0, "{}: {seen:?}", gpu.name);
        if seed == 2 && lives >= 4 {
            let all = [seen.copies, seen.cascades, seen.spread];
            assert!(all.iter().all(|count| *count > 0), "{}: {seen:?}", gpu.name);
        }
        eprintln!("{}: {seen:?}", gpu.name);
    });
}
