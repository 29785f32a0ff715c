//! Verification and commit against a decoded token: `cargo xtask bench verify`.
//!
//! For every vocabulary and size of tree, and at one size for every rule, draw and option: the time of
//! verification, commit (where a tree needs one) and the end of the step, for one request. A token that
//! SmolLM2-135M decodes on the same adapter is measured before and after, so are its steps that check as many nodes, to
//! which a verification belongs, and the adapter's streaming read. On a
//! software adapter processor time is compared too.
//! Table, JSON and plot come from the samples that criterion asked for; criterion's own arguments work.
//!
//! - `SUNFLECK_BENCH_ADAPTER` picks an adapter by a part of its name (default: the first).
//! - `SUNFLECK_MODEL` names the GGUF file; without it no token is decoded.
//! - `SUNFLECK_BENCH_OUT` names the folder for the files (default: `target/sunfleck-bench`).

#![allow(dead_code)] // much of the files of `bench attention` is for it alone

#[path = "../attention/adapter.rs"]
mod adapter;
mod bound;
mod cases;
#[path = "../attention/clock.rs"]
mod clock;
mod decode;
#[path = "../attention/machine.rs"]
mod machine;
#[path = "../attention/matrix_products.rs"]
mod matrix_products;
#[path = "../attention/peaks.rs"]
mod peaks;
#[path = "../attention/pipelines.rs"]
mod pipelines;
mod plot;
mod processor;
#[path = "../attention/random.rs"]
mod random;
mod report;
#[path = "../attention/roofline.rs"]
mod roofline;
#[path = "../attention/statistics.rs"]
mod statistics;
#[path = "../attention/timing.rs"]
mod timing;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use criterion::{Criterion, SamplingMode};

use adapter::BenchGpu;
use bound::Bound;
use clock::Clock;
use decode::Decode;
use peaks::PeakBench;
use report::{Report, Row};
use statistics::Spread;
use timing::Timer;

fn main() -> ExitCode {
    let given = |option: &str| std::env::args().any(|argument| argument == option);
    // As criterion decides it.
    let measuring = given("--bench") && !given("--test") && !given("--list");

    let gpu = BenchGpu::open();
    let timer = Timer::new(&gpu.gpu);
    let mut decode = measuring
        .then(|| Decode::from_environment(&gpu.planned))
        .flatten();
    let before = decode.as_mut().and_then(Decode::measure);
    let steps = measuring
        .then(|| decode::step_costs(&gpu.planned))
        .flatten();
    let read = measuring.then(|| {
        eprintln!("measuring the streaming read of {}", gpu.info.name);
        let bench = PeakBench::new(&gpu.gpu, gpu.software(), true);
        bench.measure(&timer).read.rate
    });

    let mut criterion = Criterion::default()
        .without_plots()
        .output_directory(&out().join("criterion"))
        .configure_from_args();
    let (rows, right) = run(&mut criterion, &gpu, &timer);
    criterion.final_summary();

    if let Some(read) = read {
        let after = decode.as_mut().and_then(Decode::measure);
        let report = Report {
            machine: machine::describe(&gpu),
            read,
            // The faster of the two: on a shared machine the slower one saw others at work.
            decode: before
                .into_iter()
                .chain(after)
                .min_by(|a, b| a.seconds.median.total_cmp(&b.seconds.median)),
            steps,
            rows,
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

/// Runs the cases that criterion's filter leaves; whether all verifications gave tokens comes with them.
fn run(criterion: &mut Criterion, gpu: &BenchGpu, timer: &Timer) -> (Vec<Row>, bool) {
    let mut group = criterion.benchmark_group(format!("verify/{}", gpu.info.name));
    group
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500));
    let mut rows = Vec::new();
    for case in cases::cases(gpu.software()) {
        // Bound when criterion's filter lets it run: a large case takes long to make.
        let mut bound = None;
        let (mut samples, mut processor) = (Vec::new(), Vec::new());
        group.bench_function(case.name.as_str(), |bencher| {
            let bound = bound.get_or_insert_with(|| Bound::new(&gpu.planned, &case));
            timer.calibrate(&bound.work, 0.01);
            bencher.iter_custom(|iterations| {
                // A submission that lasts long enough for the clocks; its time is told for as many as wanted.
                let calls = bound.work.calls_for(0.02);
                let (sample, took) = processor::measured(|| timer.sample(&bound.work, calls));
                processor.extend(took.map(|took| took / calls as f64));
                let seconds = sample.seconds(timing::best(&sample)) / calls as f64;
                samples.push(sample);
                Duration::from_secs_f64(seconds * iterations as f64)
            });
        });
        let Some(bound) = bound else {
            continue;
        };
        let tokens = bound.tokens(&gpu.planned);
        let clock = Clock::for_samples(&samples);
        let seconds = samples
            .iter()
            .map(|sample| sample.seconds(clock) / sample.calls as f64);
        if let Some(seconds) = Spread::of(seconds.collect()) {
            rows.push(Row {
                bytes: bound::logit_bytes(&case),
                seconds,
                // That of a GPU's driver says nothing.
                processor: gpu.software().then(|| Spread::of(processor)).flatten(),
                clock,
                tokens,
                case,
            });
        }
    }
    group.finish();
    let right = rows.iter().all(|row| row.tokens.is_ok());
    (rows, right)
}

/// Folder for the files.
fn out() -> PathBuf {
    std::env::var_os("SUNFLECK_BENCH_OUT").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/sunfleck-bench"
            ))
        },
        PathBuf::from,
    )
}

fn write(report: &Report, gpu: &BenchGpu) -> std::io::Result<()> {
    let folder = out();
    std::fs::create_dir_all(&folder)?;
    for (ending, text) in [
        ("json", format!("{:#}\n", report.json())),
        ("svg", plot::svg(report)),
    ] {
        let file = folder.join(format!("verify-{}.{ending}", gpu.slug()));
        std::fs::write(&file, text)?;
        println!("written to {}", file.display());
    }
    Ok(())
}
