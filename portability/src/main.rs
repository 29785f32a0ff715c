//! Translates every kernel that sunfleck can emit for Vulkan, Metal, DirectX 12 and browsers, as wgpu would, and asks
//! the compilers of those APIs that run without their systems. Prints a table of counts; fails where one was wrong.
//!
//! `cargo xtask portability` brings the compilers and runs it.

mod check;
mod scripts;
mod spirv_val;
mod table;
mod texts;
mod translate;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Result;
use serde_json::Value;

use check::Outcome;
use scripts::Script;
use spirv_val::SpirvVal;
use texts::Text;

/// So many failures are printed whole; a mistake in a shared file fails in every kernel that has it.
const PRINTED: usize = 20;

/// Where the compilers are. One that is not given is not asked, and the table says so.
struct Paths {
    spirv_val: Option<PathBuf>,
    dxc: Option<PathBuf>,
    node_modules: Option<PathBuf>,
}

impl Paths {
    fn from_environment() -> Paths {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Paths {
            spirv_val: path("SUNFLECK_SPIRV_VAL"),
            dxc: path("SUNFLECK_DXC"),
            node_modules: path("SUNFLECK_DAWN"),
        }
    }
}

fn main() -> ExitCode {
    match run(&Paths::from_environment()) {
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
fn run(paths: &Paths) -> Result<usize> {
    let began = Instant::now();
    let texts = texts::all();
    let spirv_val = paths.spirv_val.as_ref().map(SpirvVal::new).transpose()?;
    eprintln!("{} kernel texts: naga and spirv-val", texts.len());
    let mut all = in_parallel(&texts, spirv_val.as_ref());
    let (hlsl, wgsl) = (std::mem::take(&mut all.hlsl), std::mem::take(&mut all.wgsl));
    ask(&scripts::DXC, &paths.dxc, check::DXIL, &hlsl, &mut all)?;
    ask(
        &scripts::TINT,
        &paths.node_modules,
        check::TINT,
        &wgsl,
        &mut all,
    )?;
    all.failures.sort();

    for failure in all.failures.iter().take(PRINTED) {
        eprintln!("{failure}\n");
    }
    if all.failures.len() > PRINTED {
        eprintln!("and {} more\n", all.failures.len() - PRINTED);
    }
    println!(
        "{} kernel texts in {:.1} s\n\n{}",
        texts.len(),
        began.elapsed().as_secs_f64(),
        all.table
    );
    Ok(all.failures.len())
}

fn ask(
    script: &Script,
    library: &Option<PathBuf>,
    check: &'static str,
    questions: &[Value],
    all: &mut Outcome,
) -> Result<()> {
    match library {
        Some(library) => {
            eprintln!("{} of them: {check}", questions.len());
            all.note_answers(check, questions, script.ask(library, questions)?);
        }
        None => all.table.count(check).not_asked += questions.len(),
    }
    Ok(())
}

fn in_parallel(texts: &[Text], spirv_val: Option<&SpirvVal>) -> Outcome {
    let next = AtomicUsize::new(0);
    let all = Mutex::new(Outcome::default());
    let work = || {
        while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = check::check(text, spirv_val);
            (all.lock().unwrap_or_else(|poisoned| poisoned.into_inner())).add(outcome);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    all.into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
