//! The examples that need no model run.

use sunfleck::wgpu;

#[allow(dead_code)] // its main, which prints what `run` gives
#[path = "../../examples/verify.rs"]
mod verify;

#[test]
fn a_model_and_a_drafter_of_ones_own_are_verified() {
    let shown = pollster::block_on(verify::run(1)).unwrap();
    let again = pollster::block_on(verify::run(1)).unwrap();
    assert_eq!(shown, again, "a seed gives one text");
    let other = pollster::block_on(verify::run(2)).unwrap();
    assert_ne!(shown, other);
    // Drafts are accepted, and every step says what it kept.
    let steps = shown.matches("kept").count();
    let text = shown.lines().last().unwrap();
    assert!(steps < text.len() - 2, "{shown}");
    let starred = shown.lines().filter(|line| line.ends_with(" *")).count();
    let kept: usize = text.len() - 2;
    // A step keeps the starred nodes below the root and one token more: as many as are starred.
    assert_eq!(starred, kept, "{shown}");
}

#[allow(dead_code)] // its main
#[path = "../../examples/own_program.rs"]
mod own_program;

/// The example's model in f64: logits of each token of `chain`.
fn one_layer(chain: &[u32]) -> Vec<Vec<f64>> {
    let feature = |kind: u32, token: u32, i: u32| {
        f64::from((token * (73 + 2 * i) + i * 151 + kind * 101) % 64) / 32.0 - 1.0
    };
    let (heads, dim) = (own_program::HEADS, own_program::DIM);
    let row = |at: usize| -> Vec<f64> {
        let of_head = |head: u32| {
            let score = |&token: &u32| -> f64 {
                let terms =
                    (0..dim).map(|i| feature(0, chain[at], head * dim + i) * feature(1, token, i));
                terms.sum::<f64>() / f64::from(dim).sqrt()
            };
            let weights: Vec<f64> = chain[..=at]
                .iter()
                .map(|token| score(token).exp())
                .collect();
            let sum: f64 = weights.iter().sum();
            let of = move |i| {
                let terms = chain[..=at].iter().zip(&weights);
                terms
                    .map(|(&token, weight)| weight * feature(2, token, i))
                    .sum::<f64>()
                    / sum
            };
            (0..dim).map(of).collect::<Vec<_>>()
        };
        (0..heads).flat_map(of_head).collect()
    };
    let logits = |attended: Vec<f64>| -> Vec<f64> {
        let logit = |y| -> f64 {
            (0..)
                .zip(&attended)
                .map(|(i, x)| x * feature(3, y, i))
                .sum()
        };
        (0..own_program::VOCABULARY).map(logit).collect()
    };
    (0..chain.len()).map(|at| logits(row(at))).collect()
}

fn argmax(row: &[f64]) -> u32 {
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    best.unwrap_or(0) as u32
}

#[test]
fn kernels_stand_between_those_of_another_program_under_its_profiler() {
    // Four drafted tokens as the model would choose them, one that it would not, and one more.
    let mut chain = vec![7];
    for _ in 0..4 {
        chain.push(argmax(&one_layer(&chain)[chain.len() - 1]));
    }
    let own = argmax(&one_layer(&chain)[4]);
    chain.extend([(own + 1) % own_program::VOCABULARY, 0]);
    let expected = one_layer(&chain);

    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    for adapter in pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY)) {
        let name = adapter.get_info().name;
        let step = pollster::block_on(own_program::run(&adapter, &chain)).unwrap();
        for (logit, expected) in step.logits.iter().zip(expected.iter().flatten()) {
            // 32 terms below 1, each within some roundings of 2^-24.
            assert!(
                (f64::from(*logit) - expected).abs() < 1e-4,
                "{name}: {logit} for {expected}"
            );
        }
        assert_eq!(step.verdict.path, [0, 1, 2, 3, 4], "{name}");
        assert_eq!(
            step.verdict.tokens,
            [&chain[1..5], &[own]].concat(),
            "{name}"
        );
        if adapter.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            let labels: Vec<_> = step
                .scopes
                .iter()
                .map(|(label, _)| label.as_str())
                .collect();
            let passes = ["step", "embed", "attention", "head", "verify", "finalise"];
            assert_eq!(labels, passes, "{name}");
            let timed = step.scopes[1..]
                .iter()
                .all(|(_, seconds)| seconds.is_some_and(|s| s >= 0.0));
            assert!(timed, "{name}: {:?}", step.scopes);
        }
    }
}

#[allow(dead_code)] // its main
#[path = "../../examples/run_ahead.rs"]
mod run_ahead;

#[test]
fn steps_ahead_of_the_host_give_the_text_of_steps_one_at_a_time() {
    let run = |seed, submissions, steps| {
        pollster::block_on(run_ahead::run(seed, submissions, steps)).unwrap()
    };
    let (text, steps) = run(1, 1, 24);
    assert_eq!(run(1, 24, 1), (text.clone(), steps), "as one at a time");
    assert_eq!(steps, 24);
    assert!(text.len() > 24, "no draft was kept: {text}");
    assert_ne!(run(2, 1, 24).0, text);
}
