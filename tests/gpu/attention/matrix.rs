//! The case matrix, generated: every pair of values of any two axes occurs in some case (pairwise
//! covering; Cohen et al. 1997, "The AETG system"), and around a few centres each axis is swept.
//! The whole product has 10^12 cases.
//!
//! `SUNFLECK_CASE="keys=16384 group=8"` runs one case alone: axes that are not named have their
//! first value. A failure prints that line.

use std::{
    io::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use super::{
    axes::{AXES, Case},
    covering::{covering, possible_pairs, sweeps, values, with_company},
};
use crate::{
    adapters::{self, TestGpu},
    full,
};

/// The case that `SUNFLECK_CASE` names.
fn chosen() -> Option<Case> {
    let line = std::env::var("SUNFLECK_CASE").ok()?;
    Some(Case::parse(&line))
}

/// Prints past the test harness, which keeps what a test prints until it ends.
fn tell(line: &str) {
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Runs groups of cases on all processors, each group with kernels of its own, and gives a line
/// for each that failed. Long runs say how far they are.
fn run(gpu: &TestGpu, groups: &[Vec<Case>], what: &str) -> Vec<String> {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let failures = Mutex::new(Vec::new());
    let say = |done: usize| {
        let (seconds, cases) = (start.elapsed().as_secs_f64(), groups.iter().map(Vec::len));
        let of = format!("{done} of {} groups", groups.len());
        let (name, cases) = (&gpu.name, cases.sum::<usize>());
        tell(&format!(
            "{name}: {what}: {of}, {cases} cases in all, {seconds:.1} s"
        ));
    };
    let work = || {
        while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
            // Hardly two groups share a kernel: keeping all would only fill the memory.
            let own = gpu.afresh();
            for case in group {
                let recipe = case.recipe();
                if let Err(error) = recipe.case().verify(&own, recipe.seed) {
                    let line = format!("SUNFLECK_CASE={:?}: {error}", case.name());
                    tell(&line);
                    failures.lock().unwrap().push(line);
                }
            }
            let done = next.load(Ordering::Relaxed).min(groups.len());
            if full() && done.is_multiple_of(20) {
                say(done);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(8) {
            scope.spawn(work);
        }
    });
    if full() {
        say(groups.len());
    }
    failures.into_inner().unwrap()
}

fn report(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} cases failed; each line repeats one with `cargo test --test gpu matrix`:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Multiplications and additions of a case of the normal tier, and of the full one.
const SMALL: u64 = 20_000_000;
const LARGE: u64 = 1_600_000_000;

#[test]
fn every_pair_of_values_occurs() {
    let cases = covering(SMALL, 1);
    for (a, b) in possible_pairs(SMALL) {
        assert!(
            cases
                .iter()
                .any(|case| case.0[a.0] == a.1 && case.0[b.0] == b.1),
            "{}={} with {}={}",
            AXES[a.0].0,
            AXES[a.0].1[a.1],
            AXES[b.0].0,
            AXES[b.0].1[b.1]
        );
    }
    assert!(cases.iter().all(|case| case.allowed(SMALL)));
    // What the full tier can't have at all: a tree of more nodes than keys.
    let mut pairs = 0;
    for a in values() {
        pairs += values().filter(|b| a.0 < b.0).count();
    }
    let missing = pairs - possible_pairs(LARGE).len();
    assert_eq!(missing, 0);
}

#[test]
fn names_of_cases_can_be_read_back() {
    for case in covering(SMALL, 2).iter().take(20) {
        assert_eq!(Case::parse(&case.name()), *case);
    }
}

#[test]
fn a_spread_of_the_matrix_equals_the_twin() {
    let cases = covering(SMALL, 1);
    let mut failures = Vec::new();
    for gpu in adapters::all() {
        if let Some(case) = chosen() {
            failures.extend(run(gpu, &[vec![case]], "chosen"));
            continue;
        }
        // What takes the time is compiling: on lavapipe up to seconds a case.
        let count = match gpu.compiles_slowly() {
            true => 2,
            false => 5,
        };
        let others = |at: usize| cases[count + at * 12..].iter().take(60).cloned();
        let groups: Vec<_> = (0..count)
            .map(|at| with_company(&cases[at], &others(at).collect::<Vec<_>>(), 9, SMALL))
            .collect();
        failures.extend(run(gpu, &groups, "spread"));
    }
    report(&failures);
}

#[test]
fn the_matrix_equals_the_twin() {
    if !full() || chosen().is_some() {
        return;
    }
    let mut failures = Vec::new();
    for gpu in adapters::all().iter().filter(|gpu| !gpu.is_slow()) {
        let mut cases = sweeps(LARGE);
        cases.extend(covering(LARGE, 1));
        let others = covering(SMALL, 3);
        let every = if gpu.compiles_slowly() { 4 } else { 1 };
        let groups: Vec<_> = (cases.iter().enumerate().step_by(every))
            .map(|(at, case)| {
                let others = others.iter().cycle().skip(at * 7 % others.len()).take(20);
                with_company(case, &others.cloned().collect::<Vec<_>>(), 2, SMALL)
            })
            .collect();
        failures.extend(run(gpu, &groups, "matrix"));
    }
    report(&failures);
}
