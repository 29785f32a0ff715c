//! Greedy verification against its twin.

use sunfleck::{
    gpu::BufferView,
    ops::{Argmax, StepBuffer},
    reference::verify as twin,
    tree::{BlobField, DraftTree, DrawKind, NONE, field_offset},
    verify::{GreedyVerifier, Outcome, OutcomeError},
};

use crate::{
    adapters::{TestGpu, on_every_adapter},
    random::Random,
};

const MAX_NODES: u32 = 64;
const VOCABULARY: u32 = Argmax::BLOCK + 10;

/// A random tree over few tokens, so that drafts are often right.
fn random_tree(random: &mut Random, nodes: usize) -> DraftTree {
    let mut parents = vec![NONE];
    parents.extend((1..nodes as u32).map(|i| random.below(i)));
    let tokens = (0..nodes).map(|_| random.below(3)).collect();
    // Equal siblings are legal for independent draws.
    DraftTree::from_parents(tokens, parents, DrawKind::Iid).unwrap()
}

struct Verifier {
    verifier: GreedyVerifier,
    step: StepBuffer,
    tree: sunfleck::wgpu::Buffer,
    candidates: sunfleck::wgpu::Buffer,
}

fn verifier(gpu: &TestGpu, candidate_rows: u32) -> Verifier {
    let words = sunfleck::tree::blob_words(MAX_NODES as usize) as u64;
    let tree = gpu.gpu.storage("tree", words * 4).unwrap();
    let rows = u64::from(candidate_rows * Argmax::blocks(VOCABULARY));
    let candidates = gpu
        .gpu
        .storage("candidates", rows * Argmax::CANDIDATE_BYTES)
        .unwrap();
    let step = StepBuffer::new(&gpu.gpu, 1, 0).unwrap();
    let verifier = pollster::block_on(GreedyVerifier::new(
        &gpu.gpu,
        &step,
        BufferView::whole(&tree),
        BufferView::whole(&candidates),
        MAX_NODES,
        candidate_rows,
        VOCABULARY,
    ))
    .unwrap();
    Verifier {
        verifier,
        step,
        tree,
        candidates,
    }
}

impl Verifier {
    /// Loads a tree and the argmax of each node, `NONE` for a node without one.
    fn load(&self, gpu: &TestGpu, tree: &DraftTree, argmax: &[u32], past: u32) {
        let queue = gpu.gpu.queue();
        let blob = tree.blob(MAX_NODES as usize).unwrap();
        queue.write_buffer(&self.tree, 0, bytemuck::cast_slice(&blob));
        // The winner sits in a random block; the other blocks hold smaller values.
        let blocks = Argmax::blocks(VOCABULARY) as usize;
        let words: Vec<[u32; 2]> = argmax
            .iter()
            .flat_map(|token| {
                (0..blocks).map(move |block| match (*token, block) {
                    (NONE, _) => [f32::MIN.to_bits(), NONE],
                    (_, 0) => [5f32.to_bits(), *token],
                    (_, block) => [1f32.to_bits(), block as u32 * Argmax::BLOCK],
                })
            })
            .collect();
        queue.write_buffer(&self.candidates, 0, bytemuck::cast_slice(&words));
        self.step.set_rows(&gpu.gpu, tree.len() as u32);
        self.step.set_past(&gpu.gpu, past);
    }

    fn outcome(&self, gpu: &TestGpu) -> Result<Outcome, OutcomeError> {
        let words: Vec<u32> = gpu.read(self.verifier.outcome());
        Outcome::from_words(&words, MAX_NODES)
    }
}

#[test]
fn greedy_verification_equals_its_twin_on_random_trees() {
    on_every_adapter(|gpu| {
        let v = verifier(gpu, MAX_NODES);
        let mut random = Random(99);
        let mut deepest = 0;
        for round in 0..60 {
            let nodes = match round {
                0 => 1,
                1 => MAX_NODES as usize,
                _ => 1 + random.below(MAX_NODES) as usize,
            };
            let tree = random_tree(&mut random, nodes);
            let argmax: Vec<u32> = (0..nodes).map(|_| random.below(3)).collect();
            v.load(gpu, &tree, &argmax, 100);
            gpu.run(|pass| {
                v.verifier.encode(pass);
                v.verifier.encode_finish(pass);
            });
            let outcome = v.outcome(gpu).unwrap();
            let expected = twin::greedy(&tree, &argmax).unwrap();
            assert_eq!(
                outcome.path,
                expected.path,
                "{}\n{}",
                gpu.name,
                tree.to_text(|t| t.to_string())
            );
            assert_eq!(outcome.tokens, expected.tokens, "{}", gpu.name);
            let step: Vec<u32> = gpu.read(v.step.buffer());
            assert_eq!(
                step[1],
                100 + expected.path.len() as u32,
                "{}: length",
                gpu.name
            );
            deepest = deepest.max(expected.accepted());
        }
        assert!(deepest >= 3, "no deep acceptance was tested");
    });
}

#[test]
fn a_node_without_a_number_and_a_tree_that_is_none_are_flagged() {
    on_every_adapter(|gpu| {
        let v = verifier(gpu, MAX_NODES);
        let tree = DraftTree::chain(1, &[2, 2]).unwrap();
        v.load(gpu, &tree, &[2, NONE, 2], 0);
        gpu.run(|pass| v.verifier.encode(pass));
        assert_eq!(v.outcome(gpu), Err(OutcomeError::NoArgmax), "{}", gpu.name);

        // Node 1 becomes its own child: the walk must end, with a flag.
        v.load(gpu, &tree, &[2, 2, 2], 0);
        let first_child = 4 * (2 * u64::from(MAX_NODES) + 1);
        gpu.gpu
            .queue()
            .write_buffer(&v.tree, first_child, bytemuck::bytes_of(&1u32));
        gpu.run(|pass| v.verifier.encode(pass));
        assert_eq!(v.outcome(gpu), Err(OutcomeError::BadTree), "{}", gpu.name);
    });
}

#[test]
fn damage_off_the_walked_path_is_flagged_whatever_field_it_is_in() {
    on_every_adapter(|gpu| {
        let v = verifier(gpu, MAX_NODES);
        // The walk goes to node 1 and ends; nodes 2 and 3 are on the other branch.
        let tree =
            DraftTree::from_parents(vec![1, 2, 0, 1], vec![NONE, 0, 0, 2], DrawKind::TopK).unwrap();
        let argmax = [2, 1, 0, 0];
        let run = |damage: Option<(BlobField, usize, u32)>| {
            v.load(gpu, &tree, &argmax, 0);
            if let Some((field, node, value)) = damage {
                let word = field_offset(field, MAX_NODES as usize) + node;
                let queue = gpu.gpu.queue();
                queue.write_buffer(&v.tree, 4 * word as u64, bytemuck::bytes_of(&value));
            }
            gpu.run(|pass| v.verifier.encode(pass));
            v.outcome(gpu)
        };
        assert_eq!(run(None).unwrap().tokens, [2, 1], "{}", gpu.name);
        for field in [
            BlobField::Parent,
            BlobField::Depth,
            BlobField::DfsIn,
            BlobField::DfsOut,
            BlobField::NextSibling,
        ] {
            let outcome = run(Some((field, 3, 1)));
            assert_eq!(
                outcome,
                Err(OutcomeError::BadTree),
                "{}: {field:?}",
                gpu.name
            );
        }
        let outside = run(Some((BlobField::Token, 3, VOCABULARY)));
        assert_eq!(outside, Err(OutcomeError::TokenOutside), "{}", gpu.name);
        // More nodes than rows of the step.
        v.load(gpu, &tree, &argmax, 0);
        v.step.set_rows(&gpu.gpu, 3);
        gpu.run(|pass| v.verifier.encode(pass));
        assert_eq!(v.outcome(gpu), Err(OutcomeError::BadTree), "{}", gpu.name);
    });
}

#[test]
fn after_a_prompt_only_row_zero_counts_and_all_rows_are_committed() {
    on_every_adapter(|gpu| {
        let v = verifier(gpu, 4);
        // A prompt of ten tokens, whose own second token must not be taken for a right guess.
        let prompt = DraftTree::chain(1, &[2; 9]).unwrap();
        v.load(gpu, &prompt, &[2], 30);
        gpu.run(|pass| {
            v.verifier.encode_prompt(pass);
            v.verifier.encode_finish_prompt(pass);
        });
        let outcome = v.outcome(gpu).unwrap();
        assert_eq!(
            (outcome.path, outcome.tokens),
            (vec![0], vec![2]),
            "{}",
            gpu.name
        );
        let step: Vec<u32> = gpu.read(v.step.buffer());
        assert_eq!(step[1], 40, "{}", gpu.name);
    });
}
