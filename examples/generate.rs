//! Text from a GGUF model in a program of your own:
//! `cargo run --release --features generate --example generate -- MODEL.gguf "Why is the sky blue?"`.

use std::{error::Error, io::Write as _};

use sunfleck::{
    draft::{NgramDrafter, NgramOptions},
    generate::{GenerateOptions, Session},
    gpu::Gpu,
    model::{ChatTemplate, Decoder, DecoderOptions, Tokenizer, gguf},
    wgpu,
};

fn main() -> Result<(), Box<dyn Error>> {
    pollster::block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(question)) = (arguments.next(), arguments.next()) else {
        return Err("give a model file and a question".into());
    };
    let adapter = wgpu::Instance::default()
        .request_adapter(&Default::default())
        .await?;
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            // Not needed, but faster where there is one.
            required_features: adapter.features() & wgpu::Features::SUBGROUP,
            ..Default::default()
        })
        .await?;
    let gpu = Gpu::new(&device, &queue);

    let (gguf, mut reader) = gguf::open(path)?;
    let tokenizer = Tokenizer::from_gguf(&gguf)?;
    let prompt = ChatTemplate::from_gguf(&gguf)?.user_turn(&tokenizer, &question)?;
    let options = DecoderOptions::default();
    let decoder = Decoder::load(&gpu, &gguf, &mut reader, options, &mut |_, _| ()).await?;

    let drafter = NgramDrafter::new(NgramOptions::default())?;
    let mut session = Session::new(&gpu, decoder, Box::new(drafter));
    let mut text = tokenizer.decode_stream();
    for token in session.generate(
        &prompt,
        GenerateOptions {
            max_tokens: 200,
            end_tokens: tokenizer.end_tokens(),
            ..Default::default()
        },
    ) {
        if let Some(piece) = text.push(token?.id)? {
            print!("{piece}");
            std::io::stdout().flush()?;
        }
    }
    println!();
    Ok(())
}
