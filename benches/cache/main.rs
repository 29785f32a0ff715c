//! What the storage of keys and values costs and saves on SmolLM2-135M: `cargo xtask bench cache`.
//!
//! For each element type: bytes a token, the mean negative log-likelihood of a held text (`held_text.txt`, written
//! for this purpose) against that with f32, and the time of a decoded token at its end. The table goes
//! to standard output, and as JSON to `SUNFLECK_BENCH_OUT` or `target/sunfleck-bench`.
//!
//! `SUNFLECK_MODEL` names the GGUF file, as `cargo xtask` sets it; `SUNFLECK_BENCH_ADAPTER` picks
//! an adapter by a part of its name (default: the first).

mod likelihood;

use std::{
    fs::File,
    io::BufReader,
    path::PathBuf,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use sunfleck::{
    attention::Element,
    draft::NoDrafter,
    generate::Session,
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf, Tokenizer},
    wgpu,
};

/// Rows of a step while the text is scored.
const ROWS: u32 = 64;
/// Tokens decoded before the sequence goes back, so that every sample sees the same lengths.
const STEPS: u64 = 8;

const TEXT: &str = include_str!("held_text.txt");

/// Element types, and whether the cache has pages.
const CACHES: [(Element, Option<u32>); 7] = [
    (Element::F32, None),
    (Element::F32, Some(16)),
    (Element::F16, None),
    (Element::Bf16, None),
    (Element::Q8, None),
    (Element::Q4, None),
    (Element::Q4, Some(16)),
];

fn device() -> (Gpu, String) {
    let wanted = std::env::var("SUNFLECK_BENCH_ADAPTER").unwrap_or_default();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY))
        .into_iter()
        .find(|adapter| adapter.get_info().name.contains(&wanted))
        .expect("no GPU adapter of that name; `cargo xtask setup` installs a software one");
    let name = adapter.get_info().name;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & wgpu::Features::SUBGROUP,
        ..Default::default()
    }))
    .expect("a device");
    (Gpu::new(&device, &queue), name)
}

/// One line of the table.
struct Line {
    name: String,
    token_bytes: u64,
    likelihood: f64, // nats a token
    step: Duration,  // median of a decoded token
}

fn measure(criterion: &mut Criterion) {
    let path = std::env::var("SUNFLECK_MODEL")
        .expect("SUNFLECK_MODEL must name a GGUF file; `cargo xtask bench cache` sets it");
    let (gpu, adapter) = device();
    let mut reader = BufReader::new(File::open(&path).expect("the model file"));
    let gguf = Gguf::read(&mut reader).expect("a GGUF file");
    let tokenizer = Tokenizer::from_gguf(&gguf).expect("a tokenizer");
    let tokens = tokenizer.encode(TEXT, false).expect("text");
    let mut group = criterion.benchmark_group(format!("cache/{adapter}"));
    group.sample_size(10);
    let mut lines = Vec::new();
    for (element, page) in CACHES {
        let options = DecoderOptions {
            context: 2048,
            max_draft: ROWS - 1,
            cache: element,
            page,
            ..Default::default()
        };
        let mut quiet = |_, _| ();
        let load = Decoder::load(&gpu, &gguf, &mut reader, options, &mut quiet);
        let decoder = pollster::block_on(load).expect("a model");
        let token_bytes = decoder.cache().shape().token_bytes();
        let name = match page {
            None => element.name().to_owned(),
            Some(page) => format!("{}, pages of {page}", element.name()),
        };
        // Scoring has no session, which would keep the accounts of pages: a paged cache holds the same.
        let likelihood = match page {
            None => likelihood::of(&gpu, &decoder, &tokens, ROWS),
            Some(_) => f64::NAN,
        };
        let mut session = Session::new(&gpu, decoder, Box::new(NoDrafter));
        pollster::block_on(session.read_prompt(&tokens, &mut |_, _| ())).expect("a prompt");
        let start = session.tokens().len();
        let mut times = Vec::new();
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = Duration::ZERO;
                for i in 0..iterations {
                    if i % STEPS == 0 {
                        session.rewind(start);
                    }
                    let began = Instant::now();
                    pollster::block_on(session.step(1)).expect("a step");
                    times.push(began.elapsed());
                    spent += began.elapsed();
                }
                spent
            });
        });
        times.sort_unstable();
        lines.push(Line {
            name,
            token_bytes,
            likelihood,
            step: times.get(times.len() / 2).copied().unwrap_or_default(),
        });
    }
    group.finish();
    report(&adapter, tokens.len(), &lines);
}

fn report(adapter: &str, tokens: usize, lines: &[Line]) {
    let base = &lines[0];
    println!("\nSmolLM2-135M-Instruct on {adapter}, a held text of {tokens} tokens\n");
    println!("| cache | bytes a token | nats a token | change | decode | of f32 |");
    println!("|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for line in lines {
        let change = (line.likelihood / base.likelihood - 1.0) * 100.0;
        let ratio = line.step.as_secs_f64() / base.step.as_secs_f64();
        let (nats, percent) = match line.likelihood.is_nan() {
            true => ("".to_owned(), "".to_owned()),
            false => (format!("{:.4}", line.likelihood), format!("{change:+.2} %")),
        };
        println!(
            "| {} | {} | {nats} | {percent} | {:.2} ms | {ratio:.2} |",
            line.name,
            line.token_bytes,
            line.step.as_secs_f64() * 1e3,
        );
        rows.push(serde_json::json!({
            "cache": line.name,
            "token_bytes": line.token_bytes,
            "nats_per_token": (!line.likelihood.is_nan()).then_some(line.likelihood),
            "decode_seconds": line.step.as_secs_f64(),
        }));
    }
    let folder = std::env::var_os("SUNFLECK_BENCH_OUT").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/target/sunfleck-bench"
            ))
        },
        PathBuf::from,
    );
    let date = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let json = serde_json::json!({
        "benchmark": "cache",
        "adapter": adapter,
        "date": date,
        "text_tokens": tokens,
        "caches": rows,
    });
    let file = folder.join("cache.json");
    let written = std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&file, format!("{json:#}\n")));
    match written {
        Ok(()) => println!("\nwritten to {}", file.display()),
        Err(error) => eprintln!("{} could not be written: {error}", file.display()),
    }
}

criterion_group!(benches, measure);
criterion_main!(benches);
