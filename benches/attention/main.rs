//! Attention against the adapter's own peaks and a naive rival: `cargo xtask bench attention`.
//!
//! The run measures what the adapter can do at most, then each case with criterion; every sample of
//! this crate's kernels is followed by one of the rival. The table, the JSON file and the plot come
//! from the samples that criterion asked for. Criterion's own arguments work: a filter, `--quick`,
//! `--list`; without `--bench` (cargo gives it) each case only runs once and is checked.
//!
//! - `SUNFLECK_BENCH_ADAPTER` picks an adapter by a part of its name (default: the first).
//! - `SUNFLECK_BENCH_PROFILE=floor` plans without optional features and on WebGPU's least limits.
//! - `SUNFLECK_BENCH_PEERS` names a file of `benches/peers/torch_attention.py`, to report beside it.
//! - `SUNFLECK_BENCH_OUT` names the folder for the files (default: `sunfleck-bench` in cargo's
//!   target folder).

mod adapter;
mod cases;
mod clock;
mod contest;
mod kernel_names;
mod machine;
mod matrix_products;
mod peaks;
mod peers;
mod pipelines;
mod plot;
mod random;
mod report;
mod rival;
mod roofline;
mod statistics;
mod tensors;
mod timing;
mod turns;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use criterion::{Criterion, SamplingMode, Throughput};

use adapter::{BenchGpu, Profile};
use contest::{Contest, Pace};
use peaks::{PeakBench, Yardstick};
use peers::Peers;
use report::{Report, Row};
use timing::Timer;

fn main() -> ExitCode {
    let given = |option: &str| std::env::args().any(|argument| argument == option);
    // As criterion decides it.
    let measuring = given("--bench") && !given("--test") && !given("--list");
    let quick = given("--quick");

    let peers = match Peers::from_environment() {
        Ok(peers) => peers,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let gpu = BenchGpu::open();
    let timer = Timer::new(&gpu.gpu);
    let peak_bench = measuring.then(|| PeakBench::new(&gpu.gpu, gpu.software(), quick));
    if measuring {
        eprintln!("measuring the peaks of {}", gpu.info.name);
    }
    let peaks = peak_bench.as_ref().map(|bench| bench.measure(&timer));
    let yardstick = peak_bench
        .as_ref()
        .zip(peaks.as_ref())
        .map(|(bench, peaks)| bench.yardstick(peaks));

    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(&out().join("criterion"))
        .configure_from_args();
    let (rows, right) = run(&mut criterion, &gpu, &timer, yardstick.as_ref(), quick);
    criterion.final_summary();

    if let Some(peaks) = peaks {
        let report = Report {
            machine: machine::describe(&gpu),
            peaks,
            rows,
            peers,
        };
        print!("\n{}", report.table());
        if let Err(error) = write(&report, &gpu) {
            eprintln!("the files could not be written: {error}");
            return ExitCode::FAILURE;
        }
    }
    match right {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Runs the cases that criterion's filter leaves; whether all outputs were right comes with them.
fn run(
    criterion: &mut Criterion,
    gpu: &BenchGpu,
    timer: &Timer,
    yardstick: Option<&Yardstick<'_>>,
    quick: bool,
) -> (Vec<Row>, bool) {
    let pace = Pace {
        sample: if gpu.software() { 0.04 } else { 0.02 },
        warm_up: if quick { 0.001 } else { 0.3 }, // criterion takes no zero
    };
    let mut name = format!("attention/{}", gpu.info.name);
    if gpu.profile != Profile::Full {
        name = format!("{name}/{}", gpu.profile.name());
    }
    let mut group = criterion.benchmark_group(name);
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_secs_f64(pace.warm_up))
        .measurement_time(Duration::from_secs_f64(1.2));
    if quick {
        group.measurement_time(Duration::from_secs_f64(0.5));
    }

    let (mut rows, mut right) = (vec![], true);
    for case in cases::cases(gpu.software()) {
        // Made when criterion first asks for the case: its filter may leave it out.
        let mut contest = None;
        group.throughput(Throughput::Elements(case.flops()));
        group.bench_function(case.name(), |bencher| {
            let contest = contest.get_or_insert_with(|| Contest::new(gpu, timer, case, pace));
            bencher.iter_custom(|calls| match contest {
                Ok(contest) => contest.run(timer, yardstick, calls),
                // Criterion can't leave a case out any more.
                Err(_) => Duration::from_millis(calls),
            });
        });
        let Some(contest) = contest else { continue };
        let outcome = match contest {
            Ok(contest) => {
                if !report::same(contest.nmse) {
                    eprintln!("{}: WRONG, NMSE {:.1e}", case.name(), contest.nmse);
                    right = false;
                }
                yardstick
                    .and_then(|yardstick| contest.outcome(case, yardstick))
                    .ok_or("it was not measured".into())
            }
            Err(error) => {
                eprintln!("{}: did not run: {error}", case.name());
                Err(error.to_string())
            }
        };
        rows.push(Row {
            case: *case,
            outcome,
        });
    }
    group.finish();
    (rows, right)
}

/// The folder for files.
fn out() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    match (variable("SUNFLECK_BENCH_OUT"), variable("CARGO_TARGET_DIR")) {
        (Some(folder), _) => folder.into(),
        (None, Some(target)) => PathBuf::from(target).join("sunfleck-bench"),
        (None, None) => "target/sunfleck-bench".into(),
    }
}

/// Writes the files and says where they are.
fn write(report: &Report, gpu: &BenchGpu) -> std::io::Result<()> {
    let folder = out();
    std::fs::create_dir_all(&folder)?;
    let mut name = format!("attention-{}", gpu.slug());
    if gpu.profile != Profile::Full {
        name = format!("{name}-{}", gpu.profile.name());
    }
    let json = folder.join(format!("{name}.json"));
    std::fs::write(&json, format!("{:#}\n", report.json()))?;
    let plot = folder.join(format!("{name}.svg"));
    std::fs::write(&plot, plot::svg(report))?;
    println!("\nwritten: {}\n         {}", json.display(), plot.display());
    Ok(())
}
