//! Reading a prompt and decoding with SmolLM2-135M: `cargo xtask bench decode`.
//!
//! `SUNFLECK_MODEL` names the GGUF file, as `cargo xtask` sets it; `SUNFLECK_BENCH_ADAPTER` picks
//! an adapter by a part of its name (default: the first).

use std::{fs::File, io::BufReader, time::Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sunfleck::{
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::Session,
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
    wgpu,
};

/// Tokens of the prompt.
const PROMPT: usize = 128;
/// Steps after which a sequence starts again, so that every sample sees the same lengths.
const STEPS: u64 = 16;

fn session() -> (Session, String) {
    let path = std::env::var("SUNFLECK_MODEL")
        .expect("SUNFLECK_MODEL must name a GGUF file; `cargo xtask bench decode` sets it");
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
    let gpu = Gpu::new(&device, &queue);
    let mut reader = BufReader::new(File::open(&path).expect("the model file"));
    let gguf = Gguf::read(&mut reader).expect("a GGUF file");
    let decoder = pollster::block_on(Decoder::load(
        &gpu,
        &gguf,
        &mut reader,
        DecoderOptions::default(),
        &mut |_, _| (),
    ))
    .expect("a model");
    (Session::new(&gpu, decoder, Box::new(NoDrafter)), name)
}

/// A prompt that repeats itself every 32 tokens, so that the look-up finds something.
fn prompt() -> Vec<u32> {
    (0..PROMPT as u32).map(|i| 1000 + (i % 32) * 37).collect()
}

fn read_prompt(session: &mut Session) {
    session.reset();
    pollster::block_on(session.read_prompt(&prompt(), &mut |_, _| ())).expect("a prompt");
}

fn decode(criterion: &mut Criterion) {
    let (mut session, adapter) = session();
    let mut group = criterion.benchmark_group(format!("decode/{adapter}"));
    group.sample_size(10);

    group.throughput(Throughput::Elements(PROMPT as u64));
    group.bench_function("prefill/128", |bencher| {
        bencher.iter(|| read_prompt(&mut session));
    });

    for (name, ngram) in [("tokens/none", false), ("tokens/ngram", true)] {
        let drafter: Box<dyn Drafter> = match ngram {
            true => Box::new(NgramDrafter::new(NgramOptions::default()).expect("options")),
            false => Box::new(NoDrafter),
        };
        session.set_drafter(drafter);
        // One iteration is one token.
        group.throughput(Throughput::Elements(1));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut time, mut tokens) = (std::time::Duration::ZERO, 0);
                read_prompt(&mut session);
                while tokens < iterations {
                    session.rewind(PROMPT + 1);
                    let start = Instant::now();
                    for _ in 0..STEPS {
                        let step = pollster::block_on(session.step(usize::MAX)).expect("a step");
                        tokens += step.tokens.len() as u64;
                    }
                    time += start.elapsed();
                }
                time.mul_f64(iterations as f64 / tokens as f64)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
