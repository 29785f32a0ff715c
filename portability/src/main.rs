//! Translates every kernel that sunfleck can emit for Vulkan, Metal, DirectX 12 and browsers, as wgpu would, and asks
//! the compilers of those APIs that run without their systems. Prints a table of counts; fails where one was wrong.
//!
//! `cargo xtask portability` brings the compilers and runs it. Its one argument, `K/N`, takes every Nth kernel only,
//! beginning with the Kth.

mod check;
mod compilers;
mod passed;
mod service;
mod share;
mod spirv_val;
mod table;
mod texts;
mod translate;

use std::{
    env,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail};

use check::Outcome;
use compilers::{Compilers, Paths};
use passed::Passed;
use share::Share;
use texts::Text;

/// So many failures are printed whole; a mistake in a shared file fails in every kernel that has it.
const PRINTED: usize = 20;

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("{failures} checks failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The number of failures.
fn run() -> Result<usize> {
    let began = Instant::now();
    let arguments: Vec<String> = env::args().skip(1).collect();
    let share = match arguments.as_slice() {
        [] => Share::ALL,
        [share] => share.parse()?,
        _ => bail!("one argument at most is understood, K/N"),
    };
    let texts = texts::of(share);
    eprintln!("{} kernel texts ({share})", texts.len());
    // Beside the program, so that `cargo clean` takes it along.
    let program = env::current_exe().context("this program has no place")?;
    let passed = Passed::load(program.with_file_name("portability-passed.txt"));
    let paths = Paths::from_environment();
    let all = in_parallel(&texts, &paths, &passed)?;
    passed.save(share == Share::ALL)?;

    let mut failures = all.failures;
    failures.sort();
    for failure in failures.iter().take(PRINTED) {
        eprintln!("{failure}\n");
    }
    if failures.len() > PRINTED {
        eprintln!("and {} more\n", failures.len() - PRINTED);
    }
    println!(
        "{} kernel texts ({share}) in {:.1} s\n\n{}",
        texts.len(),
        began.elapsed().as_secs_f64(),
        all.table
    );
    Ok(failures.len())
}

fn in_parallel(texts: &[Text], paths: &Paths, passed: &Passed) -> Result<Outcome> {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Outcome::default());
    let work = || -> Result<()> {
        let mut compilers = Compilers::start(paths)?;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(text) = texts.get(at) else {
                return Ok(());
            };
            let outcome = check::check(text, &mut compilers, passed);
            all.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .add(outcome);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            let ended = worker.join();
            ended.unwrap_or_else(|_| bail!("a check panicked; its message stands above"))
        })
    })?;
    Ok(all.into_inner().unwrap_or_else(PoisonError::into_inner))
}
