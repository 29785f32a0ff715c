//! Damaged blobs: what the CPU refuses has a flag on the GPU, wherever it is, and commits nothing.

use sunfleck::{
    tree::{BlobField, DraftTree, DrawKind, NONE, TreeError, field_offset},
    verify::{OutcomeError, Rule, Verdict, VerifyIo, VerifyProblem, VerifyRequest},
};

use crate::adapters::{TestGpu, on_every_adapter};
use crate::random::Random;

const VOCABULARY: u32 = 40;
const STRIDE: usize = 40; // so that ancestors take two words
const MAX_NODES: u32 = 14;

/// The verdicts on a batch of blobs, and where the lengths stand afterwards.
fn verdicts(
    gpu: &TestGpu,
    rule: Rule,
    draw: DrawKind,
    blobs: &[Vec<u32>],
) -> Vec<(Result<Verdict, OutcomeError>, u32)> {
    let mut problem = VerifyProblem::new(blobs.len() as u32, MAX_NODES, VOCABULARY);
    problem.tree_stride = STRIDE as u32;
    problem.draft_rows = if draw == DrawKind::TopK { 0 } else { MAX_NODES };
    let rows = vec![0f32; blobs.len() * (MAX_NODES * VOCABULARY) as usize];
    let logits = gpu.gpu.storage_with("logits", &rows).unwrap();
    let draft = gpu.gpu.storage_with("draft", &rows).unwrap();
    let tree = gpu.gpu.storage_with("tree", &blobs.concat()).unwrap();
    let lengths = vec![[9u32, 100, 0, 0]; blobs.len()];
    let lengths = gpu
        .gpu
        .storage_with("lengths", lengths.as_flattened())
        .unwrap();
    let prepared = pollster::block_on(gpu.gpu.plan_verify(&problem).unwrap().prepare()).unwrap();
    let verify = prepared
        .bind(&VerifyIo {
            logits: (&logits).into(),
            draft: (draw != DrawKind::TopK).then_some((&draft).into()),
            tree: (&tree).into(),
            lengths: (&lengths).into(),
            masks: None,
        })
        .unwrap();
    for index in 0..blobs.len() as u32 {
        let request = VerifyRequest::new(rule, draw, index.into());
        verify.set_request(index, &request).unwrap();
    }
    gpu.run(|pass| {
        verify.encode(pass);
        verify.encode_finalise(pass);
    });
    let words: Vec<u32> = gpu.read(verify.outcome());
    let lengths: Vec<u32> = gpu.read(&lengths);
    words
        .chunks_exact(problem.outcome_words())
        .map(|words| problem.verdict(words))
        .zip(lengths.chunks_exact(4).map(|length| length[1]))
        .collect()
}

/// Random trees whose siblings differ.
fn trees(random: &mut Random, draw: DrawKind) -> Vec<DraftTree> {
    (0..4)
        .map(|i| {
            let nodes = [1, 5, 9, MAX_NODES][i];
            let parents: Vec<u32> = (0..nodes)
                .map(|node| match node {
                    0 => NONE,
                    _ => node - 1 - random.below(node.min(4)),
                })
                .collect();
            let tokens = (0..nodes).map(|node| (node * 7) % VOCABULARY).collect();
            DraftTree::from_parents(tokens, parents, draw).unwrap()
        })
        .collect()
}

fn check(gpu: &TestGpu, rule: Rule, draw: DrawKind, blobs: &[Vec<u32>]) -> usize {
    let mut refused = 0;
    for (blob, (verdict, past)) in blobs.iter().zip(verdicts(gpu, rule, draw, blobs)) {
        let tree = DraftTree::from_blob(blob, STRIDE, draw);
        let too_many = blob[field_offset(BlobField::DfsOut, STRIDE)] > MAX_NODES;
        let expected = match &tree {
            _ if too_many => Some(OutcomeError::BadTree),
            Err(TreeError::DuplicateSiblings { .. }) => Some(OutcomeError::RepeatedSiblings),
            Err(_) => Some(OutcomeError::BadTree),
            Ok(tree) if tree.tokens()[1..].iter().any(|token| *token >= VOCABULARY) => {
                Some(OutcomeError::TokenOutside)
            }
            // A row of draft logits that is not there; greedy verification asks for none.
            Ok(tree)
                if draw != DrawKind::TopK
                    && rule != Rule::Greedy
                    && tree.q_rows()[1..].iter().any(|row| *row >= MAX_NODES) =>
            {
                Some(OutcomeError::ImpossibleDraft)
            }
            Ok(_) => None,
        };
        let given = verdict.as_ref().err().copied();
        // The CPU makes siblings of the parents, the GPU takes them from the links.
        let same = given == expected
            || (expected == Some(OutcomeError::RepeatedSiblings)
                && given == Some(OutcomeError::BadTree));
        assert!(same, "{}: {rule:?} {draw:?}: {given:?} {tree:?}", gpu.name);
        assert_eq!(given.is_some(), expected.is_some(), "{}", gpu.name);
        assert_eq!(past > 100, given.is_none(), "{}: {rule:?}", gpu.name);
        refused += usize::from(given.is_some());
    }
    refused
}

#[test]
fn every_damaged_word_of_a_blob_is_flagged_on_the_gpu() {
    on_every_adapter(|gpu| {
        let mut random = Random(3);
        for (rule, draw) in [
            (Rule::Rejection, DrawKind::TopK),
            (Rule::Greedy, DrawKind::TopK),
            (Rule::Rejection, DrawKind::Iid),
            (Rule::Traversal, DrawKind::WithoutReplacement),
        ] {
            let mut blobs = Vec::new();
            for tree in trees(&mut random, draw) {
                let good = tree.blob(STRIDE).unwrap();
                blobs.push(good.clone());
                // A word of a node in use: a field, or a word of its ancestors.
                let nodes = tree.len();
                let samples = match (
                    crate::full(),
                    gpu.name.contains("llvmpipe") && gpu.name.contains("all features"),
                ) {
                    (true, _) => 200,
                    (false, true) => 30,
                    (false, false) => 8,
                };
                for _ in 0..samples {
                    let node = random.below(nodes as u32) as usize;
                    let field = random.below(10) as usize;
                    let word = match field {
                        8.. => 8 * STRIDE + node * STRIDE.div_ceil(32) + field - 8,
                        _ => field * STRIDE + node,
                    };
                    let mut blob = good.clone();
                    let near = blob[word].wrapping_add(1).wrapping_sub(2 * random.below(2));
                    let others = [near, NONE, 0, random.below(45), 1 << random.below(32), 900];
                    blob[word] = others[random.below(6) as usize];
                    blobs.push(blob);
                }
            }
            let refused = check(gpu, rule, draw, &blobs);
            // The rest are changed tokens, and words that were what they became.
            assert!(refused * 2 > blobs.len(), "{}: {refused}", gpu.name);
            assert!(refused <= blobs.len() - 4, "{}: {refused}", gpu.name);
        }
    });
}

#[test]
fn what_lies_off_the_walked_path_is_flagged_too() {
    on_every_adapter(|gpu| {
        // The root's argmax, 0 by ties, is node 1, and a leaf: nothing below node 2 is ever walked.
        let tokens = vec![5, 0, 9, 10, 11, 12];
        let parents = vec![NONE, 0, 0, 2, 2, 4];
        let good = DraftTree::from_parents(tokens, parents, DrawKind::TopK).unwrap();
        let good = good.blob(STRIDE).unwrap();
        let changed = |changes: &[(BlobField, usize, u32)]| {
            let mut blob = good.clone();
            for (field, node, value) in changes {
                blob[field_offset(*field, STRIDE) + node] = *value;
            }
            blob
        };
        use BlobField::{DfsOut, FirstChild, NextSibling, Parent, Token};
        let blobs = [
            good.clone(),
            changed(&[(Parent, 3, 5)]),                 // forward parent
            changed(&[(Parent, 3, 5), (Parent, 5, 3)]), // cycle
            changed(&[(FirstChild, 5, 4)]),             // child before its parent
            changed(&[(NextSibling, 3, NONE)]),         // node 4 is lost
            changed(&[(NextSibling, 4, 3)]),            // siblings that go round
            changed(&[(Token, 4, 10)]),                 // the same token twice
            changed(&[(Token, 5, VOCABULARY)]),         // no token
            changed(&[(DfsOut, 0, MAX_NODES + 1)]),     // more nodes than rows
            changed(&[(DfsOut, 0, 0)]),                 // none
        ];
        use OutcomeError::{BadTree, RepeatedSiblings, TokenOutside};
        let wanted = [
            None,
            Some(BadTree),
            Some(BadTree),
            Some(BadTree),
            Some(BadTree),
            Some(BadTree),
            Some(RepeatedSiblings),
            Some(TokenOutside),
            Some(BadTree),
            Some(BadTree),
        ];
        for rule in [Rule::Greedy, Rule::LossyThreshold(0.0)] {
            let given = verdicts(gpu, rule, DrawKind::TopK, &blobs);
            let given: Vec<_> = given
                .iter()
                .map(|(verdict, _)| verdict.as_ref().err().copied())
                .collect();
            assert_eq!(given, wanted, "{}: {rule:?}", gpu.name);
        }
        assert!(check(gpu, Rule::Greedy, DrawKind::TopK, &blobs) == 9);
    });
}

#[test]
fn the_widest_and_the_deepest_tree_are_trees() {
    on_every_adapter(|gpu| {
        if gpu.is_slow() || gpu.compiles_slowly() {
            return;
        }
        let most = sunfleck::tree::MAX_NODES as u32;
        for star in [true, false] {
            let parents = (0..most).map(|node| match node {
                0 => NONE,
                _ if star => 0,
                _ => node - 1,
            });
            // One pair of siblings has the same token, the last two.
            let tokens: Vec<u32> = (0..most).map(|node| node.min(most - 2)).collect();
            let tree = DraftTree::from_parents(tokens, parents.collect(), DrawKind::Iid).unwrap();
            let problem = VerifyProblem::new(1, most, most);
            let logits = gpu
                .gpu
                .storage("logits", u64::from(most) * u64::from(most) * 4)
                .unwrap();
            let blob = gpu
                .gpu
                .storage_with("tree", &tree.blob(most as usize).unwrap())
                .unwrap();
            let lengths = gpu.gpu.storage_with("lengths", &[most, 0, 0, 0]).unwrap();
            let prepared = gpu.gpu.plan_verify(&problem).unwrap();
            let prepared = pollster::block_on(prepared.prepare()).unwrap();
            let verify = prepared
                .bind(&VerifyIo {
                    logits: (&logits).into(),
                    draft: None,
                    tree: (&blob).into(),
                    lengths: (&lengths).into(),
                    masks: None,
                })
                .unwrap();
            gpu.run(|pass| verify.encode(pass));
            let verdict = problem.verdict(&gpu.read::<u32>(verify.outcome()));
            match star {
                true => assert_eq!(verdict, Err(OutcomeError::RepeatedSiblings), "{}", gpu.name),
                // Every logit is 0, and the argmax, token 0, is nobody's.
                false => assert_eq!(verdict.unwrap().path, [0], "{}", gpu.name),
            }
        }
    });
}
