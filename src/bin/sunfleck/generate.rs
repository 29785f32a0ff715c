//! `sunfleck generate`.

use std::{
    error::Error,
    fs::File,
    io::{BufReader, IsTerminal as _, Read as _, Write as _},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sunfleck::{
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{GenerateOptions, Session},
    gpu::Gpu,
    model::{ChatTemplate, DecodeStream, Decoder, DecoderOptions, Gguf, Tokenizer, TokenizerError},
};

use crate::{
    adapter::OpenDevice,
    arguments::{DrafterName, Generate},
    report::Report,
};

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

pub fn run(arguments: &Generate) -> Result<ExitCode, Box<dyn Error>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    // The first Ctrl-C ends the answer in order; a second one ends the program.
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
    })?;
    pollster::block_on(answer(arguments, &interrupted))
}

async fn answer(
    arguments: &Generate,
    interrupted: &AtomicBool,
) -> Result<ExitCode, Box<dyn Error>> {
    let path = &arguments.model;
    let file = File::open(path)
        .map_err(|error| format!("the model {} can't be opened: {error}", path.display()))?;
    let mut reader = BufReader::new(file);
    let in_file = |error: &dyn Error| format!("{}: {error}", path.display());
    let gguf = Gguf::read(&mut reader).map_err(|error| in_file(&error))?;
    let tokenizer = match Tokenizer::from_gguf(&gguf) {
        Ok(tokenizer) => Some(tokenizer),
        // Token ids in, token ids out needs none.
        Err(TokenizerError::TokenizerMissing) if arguments.prompt_tokens.is_some() => None,
        Err(error) => return Err(in_file(&error).into()),
    };
    let prompt = prompt(arguments, &gguf, tokenizer.as_ref())?;

    let device = OpenDevice::open(arguments.adapter.as_deref()).await?;
    let gpu = Gpu::new(&device.device, &device.queue);
    let options = DecoderOptions {
        context: arguments.context,
        cache: arguments.kv.into(),
        page: arguments.page,
        ..Default::default()
    };
    let bar = progress_bar("loading", "{bytes}/{total_bytes} {eta}");
    let decoder = Decoder::load(&gpu, &gguf, &mut reader, options, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    })
    .await
    .map_err(|error| in_file(&error))?;
    bar.finish_and_clear();
    device.check()?;

    let drafter: Box<dyn Drafter> = match arguments.drafter {
        DrafterName::None => Box::new(NoDrafter),
        DrafterName::Ngram => Box::new(NgramDrafter::new(NgramOptions::default())?),
    };
    let mut session = Session::new(&gpu, decoder, drafter);
    let drafter = session.drafter().to_owned();
    let options = GenerateOptions {
        max_tokens: arguments.max_tokens,
        end_tokens: tokenizer
            .as_ref()
            .map(Tokenizer::end_tokens)
            .unwrap_or_default(),
    };
    let bar = progress_bar("reading the prompt", "{pos}/{len} tokens {eta}");
    let mut tokens = Vec::new();
    let mut text = TextOut::new(tokenizer.as_ref(), !arguments.json);
    let mut stream = session
        .generate(&prompt, options)
        .with_prompt_progress(|done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        });
    let mut ended = false;
    while !interrupted.load(Ordering::Relaxed) {
        let Some(token) = stream.next_token().await else {
            ended = true;
            break;
        };
        device.check()?;
        let token = token?;
        tokens.push(token.id);
        if !text.push(token.id)? {
            break; // nobody reads the text any more
        }
    }
    text.finish()?;
    let report = Report {
        adapter: &device.info,
        drafter: &drafter,
        statistics: stream.statistics(),
        finish: stream.finish().filter(|_| ended),
        prompt: &prompt,
        tokens: &tokens,
        text: &text.whole,
    };
    if arguments.json {
        println!("{}", report.json());
    } else {
        eprint!("\n{}", report.table());
    }
    Ok(match interrupted.load(Ordering::Relaxed) {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    })
}

/// Token ids of the prompt.
fn prompt(
    arguments: &Generate,
    gguf: &Gguf,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<u32>, Box<dyn Error>> {
    if let Some(path) = &arguments.prompt_tokens {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{} can't be read: {error}", path.display()))?;
        return serde_json::from_str(&text).map_err(|error| {
            format!(
                "{} is not a JSON array of token ids: {error}",
                path.display()
            )
            .into()
        });
    }
    let tokenizer = tokenizer.ok_or(TokenizerError::TokenizerMissing)?;
    let mut text = arguments.prompt.clone().unwrap_or_default();
    if text == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text)?;
    }
    if arguments.raw {
        return Ok(tokenizer.encode_prompt(&text)?);
    }
    Ok(ChatTemplate::from_gguf(gguf)?.user_turn(tokenizer, &text)?)
}

/// A bar on standard error; nothing where that is not a terminal.
fn progress_bar(what: &'static str, counts: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    let template = format!("{{prefix}} [{{bar:30}}] {counts}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style);
    }
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar.with_prefix(what)
}

/// The text of the answer, streamed to standard output where that is wanted.
struct TextOut<'a> {
    decoder: Option<DecodeStream<'a>>,
    stream: bool,
    whole: String,
}

impl<'a> TextOut<'a> {
    fn new(tokenizer: Option<&'a Tokenizer>, stream: bool) -> Self {
        Self {
            decoder: tokenizer.map(Tokenizer::decode_stream),
            stream,
            whole: String::new(),
        }
    }

    /// Whether anybody still reads standard output.
    fn push(&mut self, token: u32) -> Result<bool, Box<dyn Error>> {
        let piece = match &mut self.decoder {
            Some(decoder) => decoder.push(token)?,
            None => None,
        };
        Ok(piece.is_none_or(|piece| self.write(&piece)))
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        let rest = self.decoder.take().map(DecodeStream::finish).transpose()?;
        if let Some(piece) = rest.flatten() {
            self.write(&piece);
        }
        if self.stream {
            self.write_out("\n");
        }
        Ok(())
    }

    fn write(&mut self, piece: &str) -> bool {
        self.whole.push_str(piece);
        !self.stream || self.write_out(piece)
    }

    fn write_out(&self, piece: &str) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(piece.as_bytes())
            .and_then(|()| out.flush())
            .is_ok()
    }
}
