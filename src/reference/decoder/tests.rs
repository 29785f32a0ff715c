use super::*;
use crate::reference::philox::{philox4x32_10, uniform};
use crate::reference::reduce::{argmax, argmax_rows};
use crate::reference::verify::greedy;
use proptest::prelude::*;

fn config() -> DecoderConfig {
    DecoderConfig {
        layers: 2,
        width: 12,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        ff: 20,
        vocab: 17,
        rope_base: 10_000.0,
        rope_dim: 4,
        rope_divisors: None,
        eps: 1e-5,
        family: Default::default(),
    }
}

/// Weights uniform in [-1, 1), the same for the same seed.
fn random_weights(config: &DecoderConfig, seed: u32) -> DecoderWeights {
    let mut tensor = 0;
    let mut random = |count: usize| -> Vec<f32> {
        tensor += 1;
        (0..count as u32)
            .map(|i| 2.0 * uniform(philox4x32_10([i, tensor, 0, 0], [seed, 0])[0]) - 1.0)
            .collect()
    };
    let &DecoderConfig {
        layers,
        width,
        heads,
        kv_heads,
        head_dim,
        ff,
        vocab,
        ..
    } = config;
    DecoderWeights {
        embedding: random(vocab * width),
        layers: (0..layers)
            .map(|_| LayerWeights {
                attention_norm: random(width),
                query: random(heads * head_dim * width),
                key: random(kv_heads * head_dim * width),
                value: random(kv_heads * head_dim * width),
                attention_output: random(width * heads * head_dim),
                biases: None,
                head_norms: None,
                ff_norm: random(width),
                gate: random(ff * width),
                up: random(ff * width),
                down: random(width * ff),
            })
            .collect(),
        output_norm: random(width),
        output: None,
    }
}

fn decoder(seed: u32) -> Decoder {
    Decoder::new(config(), random_weights(&config(), seed)).unwrap()
}

fn assert_near(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() < 1e-10, "{a} {b}");
    }
}

#[test]
fn reading_in_parts_equals_reading_at_once() {
    let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    let whole = decoder(1).forward(&tokens).unwrap();
    let mut parts = decoder(1);
    let mut logits = parts.forward(&tokens[..3]).unwrap();
    logits.extend(parts.forward(&[]).unwrap());
    for token in &tokens[3..] {
        logits.extend(parts.forward(std::slice::from_ref(token)).unwrap());
    }
    assert_near(&logits, &whole);
    assert_eq!(parts.len(), 8);
}

#[test]
fn one_layer_without_mixing_is_the_output_of_the_norm() {
    // With zero projections the residual stream is the embedding: logits = E norm(e).
    let config = DecoderConfig {
        layers: 1,
        ..config()
    };
    let mut weights = random_weights(&config, 7);
    weights.layers[0].attention_output.fill(0.0);
    weights.layers[0].down.fill(0.0);
    let row = &weights.embedding[5 * 12..6 * 12];
    let normed = rms_norm(row, &weights.output_norm, 1e-5).unwrap();
    let expected = linear(&normed, &weights.embedding, None, 1, 12, 17).unwrap();
    let logits = Decoder::new(config, weights)
        .unwrap()
        .forward(&[5])
        .unwrap();
    assert_eq!(logits, expected);
}

#[test]
fn untied_output_is_used_when_given() {
    let mut weights = random_weights(&config(), 3);
    weights.output = Some(vec![0.0; 17 * 12]);
    let logits = Decoder::new(config(), weights)
        .unwrap()
        .forward(&[1, 2])
        .unwrap();
    assert_eq!(logits, vec![0.0; 2 * 17]);
}

#[test]
fn order_of_tokens_matters() {
    // Rotary positions tell [1, 2, 3] from [2, 1, 3], whose key sets are the same.
    let last = |tokens: &[u32]| decoder(2).forward(tokens).unwrap()[2 * 17..].to_vec();
    let (a, b) = (last(&[1, 2, 3]), last(&[2, 1, 3]));
    assert!(a.iter().zip(&b).any(|(a, b)| (a - b).abs() > 1e-6));
}

#[test]
fn truncated_tokens_are_forgotten() {
    let mut rewound = decoder(4);
    rewound.forward(&[1, 2, 3, 4]).unwrap();
    rewound.truncate(2);
    let again = rewound.forward(&[9]).unwrap();
    assert_near(&again, &decoder(4).forward(&[1, 2, 9]).unwrap()[2 * 17..]);
}

#[test]
fn drafted_tokens_are_forgotten_without_a_commit() {
    let mut drafted = decoder(4);
    drafted.forward(&[1, 2]).unwrap();
    let tree = DraftTree::chain(3, &[4, 5]).unwrap();
    drafted.forward_tree(&tree).unwrap();
    assert_eq!(drafted.len(), 5);
    let again = drafted.forward(&[9]).unwrap();
    assert_near(&again, &decoder(4).forward(&[1, 2, 9]).unwrap()[2 * 17..]);
    assert_eq!(drafted.len(), 3);
}

#[test]
fn token_outside_the_vocabulary_changes_nothing() {
    let mut decoder = decoder(5);
    decoder.forward(&[1]).unwrap();
    let error = decoder.forward(&[17]).unwrap_err();
    assert!(error.to_string().contains("17 with 17 rows"), "{error}");
    assert_eq!(decoder.len(), 1);
    assert!(decoder.forward(&[16]).is_ok());
}

#[test]
fn misfitting_weights_are_named() {
    let mut weights = random_weights(&config(), 1);
    weights.layers[1].up.pop();
    let error = Decoder::new(config(), weights).unwrap_err();
    assert!(
        error.to_string().contains("`up` needs 240 elements"),
        "{error}"
    );
    let uneven = DecoderConfig {
        heads: 3,
        ..config()
    };
    assert!(Decoder::new(uneven, random_weights(&config(), 1)).is_err());
    let huge = DecoderConfig {
        width: usize::MAX,
        ..config()
    };
    assert!(Decoder::new(huge, random_weights(&config(), 1)).is_err());
}

/// What plain greedy decoding gives after `prompt`.
fn decode(seed: u32, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut decoder = decoder(seed);
    let mut logits = decoder.forward(prompt).unwrap();
    let mut tokens = Vec::new();
    for _ in 0..count {
        let token = argmax(&logits[logits.len() - 17..]).unwrap() as u32;
        tokens.push(token);
        logits = decoder.forward(&[token]).unwrap();
    }
    tokens
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_node_has_the_logits_of_its_path(
        seed in 0u32..100,
        sequences in prop::collection::vec(prop::collection::vec(0u32..17, 1..4), 1..4),
    ) {
        let mut read = decoder(seed);
        read.forward(&[1, 2, 3]).unwrap();
        let tree = DraftTree::merge(4, &sequences, 100).unwrap();
        let logits = read.clone().forward_tree(&tree).unwrap();
        for node in 0..tree.len() {
            let path = tree.path_to(node).unwrap();
            let tokens: Vec<u32> = path.iter().map(|&n| tree.tokens()[n as usize]).collect();
            let alone = read.clone().forward(&tokens).unwrap();
            assert_near(&logits[node * 17..][..17], &alone[alone.len() - 17..]);
        }
    }

    #[test]
    fn speculative_decoding_equals_plain_decoding(
        seed in 0u32..100,
        wrong in prop::collection::vec(prop::collection::vec(0u32..17, 0..4), 1..4),
        right in 0usize..4,
    ) {
        let prompt = [2, 7, 1];
        let expected = decode(seed, &prompt, 12);
        let mut decoder = decoder(seed);
        let logits = decoder.forward(&prompt).unwrap();
        let mut tokens = vec![argmax(&logits[logits.len() - 17..]).unwrap() as u32];
        while tokens.len() < 8 {
            // A draft of wrong guesses and, last among its siblings, some of the right continuation.
            let mut sequences = wrong.clone();
            sequences.push(expected[tokens.len()..][..right].to_vec());
            let tree = DraftTree::merge(*tokens.last().unwrap(), &sequences, 100).unwrap();
            let logits = decoder.forward_tree(&tree).unwrap();
            let verified = greedy(&tree, &argmax_rows(&logits, 17).unwrap()).unwrap();
            prop_assert!(verified.accepted() >= right);
            decoder.commit(&verified.path).unwrap();
            tokens.extend(verified.tokens);
            prop_assert_eq!(decoder.len(), prompt.len() + tokens.len() - 1);
        }
        let shared = tokens.len().min(expected.len());
        prop_assert_eq!(&tokens[..shared], &expected[..shared]);
    }
}
