//! Several prompts answered at once: `cargo run --release --features generate --example batch -- MODEL.gguf PROMPT...`

use std::{collections::BTreeMap, error::Error, fs::File, io::BufReader};

use sunfleck::{
    draft::NoDrafter,
    generate::{Batch, GenerateOptions},
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf, Tokenizer},
    wgpu,
};

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("give a GGUF file and some prompts")?;
    let prompts: Vec<String> = arguments.collect();

    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&Default::default()).await?;
    let (device, queue) = adapter.request_device(&Default::default()).await?;
    let gpu = Gpu::new(&device, &queue);

    let mut reader = BufReader::new(File::open(path)?);
    let gguf = Gguf::read(&mut reader)?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    // Room for four answers at once; more prompts wait until one of them has ended.
    let options = DecoderOptions {
        sequences: 4,
        ..Default::default()
    };
    let decoder = Decoder::load(&gpu, &gguf, &mut reader, options, &mut |_, _| ()).await?;
    let mut batch = Batch::new(&gpu, decoder).await?;

    let mut waiting = prompts.iter();
    let mut answers = BTreeMap::new();
    loop {
        while batch.room() > 0
            && let Some(prompt) = waiting.next()
        {
            let options = GenerateOptions {
                max_tokens: 64,
                end_tokens: tokenizer.end_tokens(),
                ..Default::default()
            };
            let tokens = tokenizer.encode_prompt(prompt)?;
            let id = batch.join(&tokens, options, Box::new(NoDrafter)).await?;
            answers.insert(id, (prompt, Vec::new()));
        }
        if batch.is_empty() {
            return Ok(());
        }
        for part in batch.step().await? {
            let Some((prompt, tokens)) = answers.get_mut(&part.answer) else {
                continue;
            };
            tokens.extend(part.tokens.iter().map(|token| token.id));
            if part.finish.is_some() {
                println!("{prompt}{}\n", tokenizer.decode(tokens)?);
            }
        }
    }
}
