//! Choices from given costs and counts.

use super::*;
use crate::tree::DraftTree;

/// Proposes what it is allowed: chains, or with more children two of them at the root.
struct Obedient;

impl Drafter for Obedient {
    fn name(&self) -> &str {
        "obedient"
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let depth = context.max_depth.min(context.max_nodes - 1);
        let chain: Vec<u32> = (1..=depth as u32).collect();
        let mut paths = vec![chain];
        if context.branches {
            paths.push(vec![99]);
        }
        let tree = DraftTree::merge(context.root()?, &paths, context.max_nodes)?;
        Ok(Drafted::OnHost(tree))
    }
}

/// Each node costs `each` of a plain step more, each drafted level `level`.
fn costs(each: f64, level: f64) -> StepCosts {
    let verify: Vec<_> = (1..=16).map(|n| (n, 1.0 + each * (n - 1) as f64)).collect();
    let draft: Vec<_> = (0..=15).map(|d| (d, level * d as f64)).collect();
    StepCosts::new(&verify, &draft).unwrap()
}

/// Runs until `tokens` tokens; `keeps` says how many tokens of a draft so deep are kept after so many
/// tokens. Costs over those of plain decoding.
fn run(auto: &mut Auto, tokens: usize, mut keeps: impl FnMut(usize, usize) -> usize) -> f64 {
    let (mut cost, mut given) = (0.0, 0);
    while given < tokens {
        let drafted = auto.draft(&DraftContext::new(&[7], 16, 15)).unwrap();
        let tree = drafted.tree().clone();
        let depth = tree.max_depth() as usize;
        cost += auto.costs.step(tree.len(), depth);
        let kept = keeps(given, depth).min(depth);
        let mut path = vec![0];
        for _ in 0..kept {
            let last = path[path.len() - 1] as usize;
            path.extend(tree.children(last).next().map(|child| child as u32));
        }
        let accepted: Vec<u32> = path[1..]
            .iter()
            .map(|&n| tree.tokens()[n as usize])
            .collect();
        auto.observe(&Outcome::new(&tree, &accepted).with_path(&path));
        given += kept + 1;
    }
    cost / (given as f64 * auto.costs.plain())
}

fn auto(costs: StepCosts) -> Auto {
    Auto::new(Box::new(Obedient), costs)
}

#[test]
fn good_drafts_are_used() {
    let mut always = auto(costs(0.05, 0.02));
    let ratio = run(&mut always, 400, |_, depth| depth);
    assert!(ratio < 0.35, "{ratio}");
    assert!(always.speculates() && (always.cost_ratio() - ratio).abs() < 1e-9);
    // Half of them kept: as long as the last one is worth its cost.
    let mut half = auto(costs(0.05, 0.02));
    let ratio = run(&mut half, 400, |given, depth| depth.min(given % 3));
    assert!(ratio < 0.8, "{ratio}");
    assert!(
        half.explain().unwrap().contains("a chain of"),
        "{:?}",
        half.explain()
    );
}

#[test]
fn a_drafter_that_is_always_wrong_costs_at_most_five_percent() {
    for (each, level) in [(0.02, 0.0), (0.1, 0.05), (0.5, 0.1), (1.0, 0.0), (3.0, 1.0)] {
        for tokens in [100, 400, 1500] {
            let mut auto = auto(costs(each, level));
            let ratio = run(&mut auto, tokens, |_, _| 0);
            assert!(ratio <= 1.05, "{each} {level} {tokens}: {ratio}");
        }
        let mut auto = auto(costs(each, level));
        run(&mut auto, 1500, |_, _| 0);
        assert!(!auto.speculates());
        assert!(auto.explain().unwrap().contains("no drafts"));
    }
}

#[test]
fn one_that_wins_trust_to_betray_it_costs_at_most_five_percent() {
    for period in [3, 10, 50, 300] {
        for (each, level) in [(0.02, 0.0), (0.1, 0.05), (0.5, 0.1)] {
            let mut auto = auto(costs(each, level));
            let keeps = |given: usize, depth| match (given / period) % 2 {
                0 => depth,
                _ => 0,
            };
            let ratio = run(&mut auto, 1500, keeps);
            assert!(ratio <= 1.05, "{period} {each} {level}: {ratio}");
        }
    }
}

#[test]
fn tries_find_out_when_drafts_become_good() {
    let mut auto = auto(costs(0.1, 0.05));
    run(&mut auto, 1000, |_, _| 0);
    assert!(!auto.speculates());
    run(&mut auto, 600, |_, depth| depth);
    assert!(auto.speculates());
}

#[test]
fn trees_that_are_dear_to_grow_are_left_for_chains() {
    // Of the root's children the second is right, so that only trees keep anything.
    let second = |auto: &mut Auto| {
        for _ in 0..400 {
            let drafted = auto.draft(&DraftContext::new(&[7], 16, 15)).unwrap();
            let tree = drafted.tree().clone();
            let mut path = vec![0];
            path.extend(tree.children(0).nth(1).map(|child| child as u32));
            let tokens = path[1..].iter().map(|&n| tree.tokens()[n as usize]);
            let accepted: Vec<u32> = tokens.collect();
            auto.observe(&Outcome::new(&tree, &accepted).with_path(&path));
        }
        auto.plan.ask
    };
    let usual = costs(0.05, 0.02);
    assert!(second(&mut auto(usual.clone())).branches);
    let dear: Vec<_> = (0..=15).map(|depth| (depth, 2.0 * depth as f64)).collect();
    let dear = usual.with_branching(&dear).unwrap();
    assert!(!second(&mut auto(dear)).branches);
}

/// Decodes `tokens` tokens with drafts that are all kept. A step with a draft takes `dearer` times what its costs
/// say, and everything as long as the machine is `busy`.
fn by_the_clock(auto: &mut Auto, tokens: usize, dearer: f64, busy: f64) -> f64 {
    let costs = auto.given.clone();
    let (mut seconds, mut given) = (0.0, 0);
    while given < tokens {
        // Every third step there is nothing to draft.
        let room = if given % 3 == 0 { 0 } else { 15 };
        let drafted = auto.draft(&DraftContext::new(&[7], 16, room)).unwrap();
        let tree = drafted.tree().clone();
        let depth = tree.max_depth() as usize;
        let path: Vec<u32> = (0..=depth as u32).collect();
        let kept = &tree.tokens()[1..=depth];
        let mut time = busy * costs.step(tree.len(), depth);
        if tree.len() > 1 {
            time *= dearer;
        }
        seconds += time;
        let outcome = Outcome::new(&tree, kept).with_path(&path);
        auto.observe(&outcome.with_time(web_time::Duration::from_secs_f64(time)));
        given += depth + 1;
    }
    seconds / (given as f64 * busy * costs.plain())
}

#[test]
fn drafts_that_the_clock_finds_too_dear_are_given_up() {
    for busy in [1.0, 5.0] {
        let mut right = auto(costs(0.05, 0.0)).by_the_clock();
        let ratio = by_the_clock(&mut right, 600, 1.0, busy);
        assert!(ratio < 0.6, "{ratio}");
        // A drafted step takes as long as all of its tokens would.
        let mut wrong = auto(costs(0.05, 0.0)).by_the_clock();
        by_the_clock(&mut wrong, 60, 8.0, busy);
        let ratio = by_the_clock(&mut wrong, 600, 8.0, busy);
        assert!(ratio < 1.05, "{ratio}\n{}", wrong.explain().unwrap());
        assert!(wrong.explain().unwrap().contains("clock"));
    }
}

#[test]
fn nothing_is_drafted_where_a_node_costs_a_step() {
    let mut auto = auto(costs(1.0, 0.0));
    let ratio = run(&mut auto, 200, |_, depth| depth);
    assert!(!auto.speculates() && (ratio - 1.0).abs() < 0.05, "{ratio}");
}
