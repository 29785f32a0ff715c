//! Adapter and model of a run.

use std::{
    fs::File,
    io::{BufReader, Read, Seek},
    path::PathBuf,
};

use sunfleck::{
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf, Tokenizer},
    wgpu,
};

/// A source of weights.
pub trait Weights: Read + Seek {}
impl<R: Read + Seek> Weights for R {}

/// What is measured on.
pub struct Machine {
    /// What the adapter says about itself.
    pub info: wgpu::AdapterInfo,
    /// The device.
    pub gpu: Gpu,
    /// The file's table.
    pub gguf: Gguf,
    /// The file.
    pub reader: BufReader<File>,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The file's name.
    pub model: String,
    /// Whether the trained drafters are for this model.
    pub has_weights: bool,
}

impl Machine {
    /// Opens adapter and model, and loads the model for up to `max_draft` drafted tokens.
    pub async fn open(max_draft: u32) -> Result<(Self, Decoder), String> {
        let path = std::env::var("SUNFLECK_MODEL").map_err(
            |_| "SUNFLECK_MODEL must name a GGUF file; `cargo xtask bench generate` sets it",
        )?;
        let wanted = std::env::var("SUNFLECK_BENCH_ADAPTER").unwrap_or_default();
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
        let found = adapters.into_iter();
        let mut found = found.filter(|adapter| adapter.get_info().name.contains(&wanted));
        let adapter = found
            .next()
            .ok_or("no GPU adapter of that name; `cargo xtask setup` installs a software one")?;
        let features = wgpu::Features::SUBGROUP | wgpu::Features::SHADER_F16;
        let device = adapter.request_device(&wgpu::DeviceDescriptor {
            required_features: adapter.features() & features,
            ..Default::default()
        });
        let (device, queue) = device.await.map_err(|error| error.to_string())?;
        let gpu = Gpu::new(&device, &queue);
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        let mut reader = BufReader::new(file);
        let gguf = Gguf::read(&mut reader).map_err(|error| format!("{path}: {error}"))?;
        let tokenizer = Tokenizer::from_gguf(&gguf).map_err(|error| error.to_string())?;
        let options = DecoderOptions {
            max_draft,
            ..Default::default()
        };
        let decoder = Decoder::load(&gpu, &gguf, &mut reader, options, &mut |_, _| ()).await;
        let decoder = decoder.map_err(|error| format!("{path}: {error}"))?;
        let model = PathBuf::from(&path);
        let model = model
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // The demo model is called so inside, whatever its file is called.
        let named = gguf.str("general.name").unwrap_or_default().to_lowercase();
        let has_weights = model.to_lowercase().contains("smollm2-135m-instruct")
            || named.starts_with("smollm2 135m");
        let machine = Self {
            info: adapter.get_info(),
            gpu,
            gguf,
            reader,
            tokenizer,
            model,
            has_weights,
        };
        Ok((machine, decoder))
    }
}
