//! Drafters and trees against plain decoding, on real prompts: `cargo xtask bench generate`.
//!
//! Each prompt is answered by every contender in turn, greedily, and by plain decoding before the first and after the
//! last of them: speed-ups are ratios of times that lie close together. `SUNFLECK_MODEL` names the GGUF file, as `cargo
//! xtask` sets it; drafters with trained weights take part for the model whose folder in `models/` has them.
//!
//! Arguments: words, of which a contender's name has to contain one; `--prompts N` of the fifty (4), spread over their
//! kinds; `--kind NAME` for prompts of one kind; `--tokens N` at most an answer (48), which ends with the model's turn
//! unless `--past-end` says otherwise; `--vocabulary N|all` for the tokens that trained drafters can draft (8192);
//! `--draft-model FILE` for the contender `model`; `--list`. The files are written after every prompt, and `--resume` goes
//! on where a run of the same things stopped.
//!
//! `--places prompts|training` counts instead how often drafts are right at every place of `--prompts N` texts of
//! `--tokens N` tokens: of greedy answers to the prompts, or of texts as the drafters' own statistics were counted on.
//!
//! - `SUNFLECK_BENCH_ADAPTER` picks an adapter by a part of its name (default: the first).
//! - `SUNFLECK_BENCH_OUT` names the folder for the files (default: `sunfleck-bench` in cargo's target folder).

mod arguments;
mod contenders;
mod counts;
mod device;
mod places;
mod plot;
mod prompts;
mod report;
mod run;
mod texts;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use arguments::{Arguments, Texts};
use contenders::Contender;
use report::Report;

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)).and_then(|arguments| answer(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(arguments: &Arguments) -> Result<(), String> {
    let all = match arguments.places {
        Some(_) => contenders::chains(),
        None => contenders::all(),
    };
    let chosen: Vec<_> = (all.into_iter())
        .filter(|contender| arguments.wants(&contender.name()))
        .collect();
    if arguments.list {
        chosen
            .iter()
            .for_each(|contender| println!("{}", contender.name()));
        return Ok(());
    }
    // `cargo test --benches` gives no --bench: nothing is measured then.
    if !arguments.measure {
        return Ok(());
    }
    let out = std::env::var_os("SUNFLECK_BENCH_OUT").map_or_else(default_folder, PathBuf::from);
    match arguments.places {
        Some(wanted) => count_places(arguments, &chosen, wanted, &out),
        None => time_answers(arguments, &chosen, &out),
    }
}

fn time_answers(arguments: &Arguments, chosen: &[Contender], out: &Path) -> Result<(), String> {
    let path = |report: &Report, extension: &str| {
        out.join(format!("generate-{}.{extension}", report.slug()))
    };
    let mut save = |report: &Report| {
        write(&path(report, "json"), &format!("{:#}\n", report.json()))?;
        write(&path(report, "svg"), &plot::svg(report))
    };
    let earlier = |report: &Report| {
        let text = arguments
            .resume
            .then(|| std::fs::read_to_string(path(report, "json")));
        report.resumed(&text?.ok()?)
    };
    let report = pollster::block_on(run::run(arguments, chosen, earlier, &mut save))?;
    println!("\n{}", report.table());
    save(&report)?;
    for extension in ["json", "svg"] {
        println!("{}", path(&report, extension).display());
    }
    Ok(())
}

fn count_places(
    arguments: &Arguments,
    chosen: &[Contender],
    wanted: Texts,
    out: &Path,
) -> Result<(), String> {
    let (table, json) = pollster::block_on(places::run(arguments, chosen, wanted))?;
    println!("\n{table}");
    let of = match wanted {
        Texts::Prompts => "prompts",
        Texts::Training => "training",
    };
    let size = arguments
        .vocabulary
        .map_or_else(|| "all".to_owned(), |size| size.to_string());
    let path = out.join(format!("places-{of}-{size}.json"));
    write(&path, &format!("{json:#}\n"))?;
    println!("{}", path.display());
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

/// `sunfleck-bench` beside the folder of the running program's profile.
fn default_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(3).map(PathBuf::from);
    target.unwrap_or_default().join("sunfleck-bench")
}
