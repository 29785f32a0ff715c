//! At temperature 0 every drafter and tree gives exactly the tokens of plain decoding, on SmolLM2-135M-Instruct with the
//! trained weights; and what is kept a step.

use super::real::{Model, prompts};
use crate::adapters::on_every_adapter;

#[test]
fn every_drafter_keeps_the_text() {
    let full = std::env::var_os("SUNFLECK_FULL").is_some();
    let chosen = std::env::var("SUNFLECK_DRAFTERS").ok();
    let all = [
        "mtp-tree",
        "medusa",
        "exit-6",
        "model",
        "ngram+medusa",
        "ngram-tree",
        "ngram",
        "mtp",
        "mtp-tree-32",
        "exit-12",
        "ngram+mtp",
    ];
    let names: Vec<&str> = match &chosen {
        Some(names) => names.split(',').collect(),
        None if full => all.to_vec(),
        None => all[..5].to_vec(),
    };
    let mut prompts = prompts();
    let count = if full { 128 } else { 24 };
    if !full {
        // One of each kind.
        prompts.retain(|prompt| prompt.id.ends_with("-1"));
    }
    on_every_adapter(|gpu| {
        if gpu.is_slow() || !gpu.name.contains("all features") {
            return;
        }
        let mut model = Model::open(gpu);
        let plain: Vec<Vec<u32>> = (prompts.iter())
            .map(|prompt| model.answer(&prompt.text, count).tokens)
            .collect();
        for name in &names {
            let drafter = model.drafter(gpu, name);
            model.session.set_drafter(drafter);
            let mut totals: Vec<(&str, usize, usize)> = Vec::new();
            let (mut means, mut own_means) = (Vec::new(), Vec::new());
            for (prompt, plain) in prompts.iter().zip(&plain) {
                let answer = model.answer(&prompt.text, count);
                assert_eq!(&answer.tokens, plain, "{name}, prompt {}", prompt.id);
                let (steps, kept) = (answer.steps, answer.kept);
                means.push(kept as f64 / steps as f64);
                own_means.push(answer.own_kept as f64 / answer.own_steps.max(1) as f64);
                match totals.iter_mut().find(|(kind, ..)| *kind == prompt.kind) {
                    Some(total) => (total.1, total.2) = (total.1 + steps, total.2 + kept),
                    None => totals.push((&prompt.kind, steps, kept)),
                }
            }
            let per_step = |steps: usize, kept: usize| kept as f64 / steps as f64;
            let (steps, kept) = (totals.iter()).fold((0, 0), |(s, k), t| (s + t.1, k + t.2));
            let mean = |means: &[f64]| means.iter().sum::<f64>() / means.len() as f64;
            let kinds: Vec<String> = (totals.iter())
                .map(|(kind, steps, kept)| format!("{kind} {:.2}", per_step(*steps, *kept)))
                .collect();
            eprintln!(
                "{name}: {:.2} drafted tokens kept a step (mean of answers {:.2}, up to the ends of turns {:.2}): {}",
                per_step(steps, kept),
                mean(&means),
                mean(&own_means),
                kinds.join(", ")
            );
            if *name == "model" {
                assert_eq!(kept, 4 * steps, "a model's drafts for itself are right");
            }
            let least = match *name {
                "mtp-tree" => 1.0,
                "medusa" => 0.5,
                "exit-6" => 0.3,
                _ => 0.0,
            };
            assert!(per_step(steps, kept) >= least, "{name} keeps too little");
        }
    });
}
