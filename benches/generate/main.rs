//! Drafters and trees against plain decoding, on real prompts: `cargo xtask bench generate`.
//!
//! Each prompt is answered by every contender in turn, greedily, and by plain decoding before the first and after the
//! last of them: speed-ups are ratios of times that lie close together. `SUNFLECK_MODEL` names the GGUF file, as `cargo
//! xtask` sets it; drafters with trained weights take part for the model whose folder in `models/` has them.
//!
//! Arguments: words, of which a contender's name has to contain one; `--prompts N` of the fifty (4), spread over their
//! kinds; `--tokens N` an answer (48); `--kind NAME` for prompts of one kind; `--list`.
//!
//! - `SUNFLECK_BENCH_ADAPTER` picks an adapter by a part of its name (default: the first).
//! - `SUNFLECK_BENCH_OUT` names the folder for the files (default: `sunfleck-bench` in cargo's target folder).

mod arguments;
mod contenders;
mod device;
mod plot;
mod prompts;
mod report;
mod run;

use std::{path::PathBuf, process::ExitCode};

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let chosen: Vec<_> = (contenders::all().into_iter())
        .filter(|contender| arguments.wants(&contender.name()))
        .collect();
    if arguments.list {
        chosen
            .iter()
            .for_each(|contender| println!("{}", contender.name()));
        return ExitCode::SUCCESS;
    }
    // `cargo test --benches` gives no --bench: nothing is measured then.
    if !arguments.measure {
        return ExitCode::SUCCESS;
    }
    match pollster::block_on(run::run(&arguments, &chosen)) {
        Ok(report) => {
            println!("\n{}", report.table());
            let out =
                std::env::var_os("SUNFLECK_BENCH_OUT").map_or_else(default_folder, PathBuf::from);
            let name = format!("generate-{}", report.slug());
            let json = format!("{:#}\n", report.json());
            let files = [("json", json), ("svg", plot::svg(&report))];
            let written = std::fs::create_dir_all(&out).and_then(|()| {
                files.iter().try_for_each(|(extension, text)| {
                    let path = out.join(format!("{name}.{extension}"));
                    std::fs::write(&path, text)?;
                    println!("{}", path.display());
                    Ok(())
                })
            });
            match written {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("error: {}: {error}", out.display());
                    ExitCode::FAILURE
                }
            }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `sunfleck-bench` beside the folder of the running program's profile.
fn default_folder() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(3).map(PathBuf::from);
    target.unwrap_or_default().join("sunfleck-bench")
}
