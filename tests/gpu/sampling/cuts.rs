//! Cut-offs of large rows, and of rows with ties and no numbers, equal the twin's.

use sunfleck::{
    tree::{DraftTree, DrawKind},
    verify::{Element, Rule, Sampling, VerifyRequest},
};

use super::Case;
use super::twin::{coarse, compare};
use crate::adapters::on_every_adapter;
use crate::random::Random;

fn sampling(temperature: f32, top_k: u32, top_p: f32, min_p: f32) -> Sampling {
    Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        ..Sampling::default()
    }
}

/// A root alone: one row, of which one token is sampled.
fn case(logits: Vec<f32>, sampling: Sampling, seed: u64) -> Case {
    let mut request = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, seed);
    request.sampling = sampling;
    Case {
        request,
        tree: DraftTree::root_only(0),
        logits,
        draft: Vec::new(),
        position: 5,
        occurred: Vec::new(),
        grammar: Vec::new(),
    }
}

/// One of each: cuts that keep few and many tokens, ties at the cut, all equal, infinities and NaN. The values
/// are such that every element type holds them.
fn cases(random: &mut Random, vocabulary: usize) -> Vec<Case> {
    let few = (vocabulary / 3).min(40) as u32;
    let many = (vocabulary / 5).max(1) as u32;
    let mut cases = Vec::new();
    let mut push = |logits: &[f32], sampling| {
        let seed = cases.len() as u64;
        cases.push(case(logits.to_vec(), sampling, seed));
    };
    let normal = coarse(random, vocabulary);
    for options in [
        sampling(0.7, 0, 1.0, 0.0),
        sampling(0.7, few, 1.0, 0.0),
        sampling(1.0, many, 1.0, 0.0),
        sampling(0.5, 0, 0.5, 0.0),
        sampling(1.0, 0, 0.95, 0.0),
        sampling(2.0, 0, 0.999, 0.0),
        sampling(1.3, many, 0.8, 0.0),
        sampling(1.0, few, 0.9, 0.2),
        sampling(1.0, 0, 1.0, 0.05),
    ] {
        push(&normal, options);
    }
    // Equal everywhere, so that the cut falls among equal tokens: by their ids.
    let equal = vec![2.5; vocabulary];
    for options in [
        sampling(1.0, 0, 1.0, 0.0),
        sampling(1.0, many, 1.0, 0.0),
        sampling(1.0, 0, 0.37, 0.0),
        sampling(1.0, many, 0.4321, 1.0),
    ] {
        push(&equal, options);
    }
    // Three values; and what is no number.
    let steps: Vec<f32> = (0..vocabulary).map(|y| (y % 3) as f32).collect();
    push(&steps, sampling(1.0, (vocabulary / 2) as u32, 1.0, 0.0));
    push(&steps, sampling(1.0, 0, 0.8, 0.0));
    let mut strange = normal;
    for (y, logit) in strange.iter_mut().enumerate() {
        match y % 7 {
            2 => *logit = f32::NAN,
            4 => *logit = f32::NEG_INFINITY,
            _ => {}
        }
    }
    push(&strange, sampling(1.0, many, 0.9, 0.0));
    let mut infinite = strange.clone();
    for y in [vocabulary - 1, vocabulary / 2] {
        infinite[y] = f32::INFINITY;
    }
    push(&infinite, sampling(1.0, 0, 0.7, 0.0));
    push(&infinite, sampling(1.0, 3, 1.0, 0.0));
    let mut alone = vec![f32::NEG_INFINITY; vocabulary];
    alone[vocabulary - 1] = -7.0;
    push(&alone, sampling(1.0, few, 0.5, 0.1));
    cases
}

#[test]
fn cuts_equal_the_twins_for_every_vocabulary_and_element() {
    on_every_adapter(|gpu| {
        let mut random = Random(12);
        for (vocabulary, element) in [
            (1, Element::F32),
            (49_152, Element::Bf16),
            (151_936, Element::F16),
            (262_144, Element::F32),
        ] {
            let cases = cases(&mut random, vocabulary);
            compare(gpu, vocabulary, element, &cases);
        }
    });
}

/// Logits that no two tokens share, so that a cut by rank or mass falls between any two of them.
#[test]
fn cuts_of_fine_logits_equal_the_twins() {
    on_every_adapter(|gpu| {
        let mut random = Random(13);
        let vocabulary = 70_001;
        let rows: Vec<Vec<f32>> = (0..3)
            .map(|row| {
                let scale = [0.01, 1.0, 30.0][row];
                random
                    .normals(vocabulary)
                    .iter()
                    .map(|x| x * scale)
                    .collect()
            })
            .collect();
        let options = [
            sampling(1.0, 1, 1.0, 0.0),
            sampling(1.0, 300, 1.0, 0.0),
            sampling(1.0, 20_000, 0.9, 0.0),
            sampling(1.0, 0, 0.3, 0.0),
            sampling(0.8, 0, 0.97, 0.0),
            sampling(1.0, 0, 1.0, 0.3),
        ];
        let cases: Vec<Case> = (0..18)
            .map(|i| case(rows[i % 3].clone(), options[i / 3], i as u64))
            .collect();
        compare(gpu, vocabulary, Element::F32, &cases);
    });
}
