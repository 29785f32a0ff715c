//! `sunfleck generate`.

use std::{
    error::Error,
    io::{IsTerminal as _, Read, Seek, Write as _},
    path::Path,
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sunfleck::{
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{
        CancelHandle, Finish, GenerateOptions, Session, StopStep, StopStrings, TokenChoice,
    },
    gpu::Gpu,
    model::{
        ChatTemplate, DecodeStream, Decoder, DecoderOptions, Gguf, Tokenizer, TokenizerError, gguf,
        hugging_face,
    },
};

use crate::{
    adapter::OpenDevice,
    arguments::{DrafterName, Generate},
    report::Report,
};

/// Exit status after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

pub fn run(arguments: &Generate) -> Result<ExitCode, Box<dyn Error>> {
    let interrupted = CancelHandle::default();
    let cancel = interrupted.clone();
    // The first Ctrl-C ends the answer in order; a second one ends the program.
    ctrlc::set_handler(move || {
        if cancel.is_cancelled() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        cancel.cancel();
    })?;
    pollster::block_on(answer(arguments, &interrupted))
}

/// Any source of weights.
trait Weights: Read + Seek {}
impl<R: Read + Seek> Weights for R {}

/// A GGUF file, the first of several, or a folder with safetensors files.
fn open_model(path: &Path) -> Result<(Gguf, Box<dyn Weights>), String> {
    if path.is_dir() {
        let opened = hugging_face::open(path);
        return opened
            .map(|(gguf, reader)| (gguf, Box::new(reader) as Box<dyn Weights>))
            .map_err(|error| format!("the model {}: {error}", path.display()));
    }
    gguf::open(path)
        .map(|(gguf, reader)| (gguf, Box::new(reader) as Box<dyn Weights>))
        .map_err(|error| format!("the model {error}"))
}

async fn answer(
    arguments: &Generate,
    interrupted: &CancelHandle,
) -> Result<ExitCode, Box<dyn Error>> {
    let choice = TokenChoice {
        log_probabilities: arguments.log_probabilities.then_some(0),
        ..arguments.sampling.choice()?
    };
    let path = &arguments.model;
    let (gguf, mut reader) = open_model(path)?;
    let in_file = |error: &dyn Error| format!("{}: {error}", path.display());
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
        choice,
        context_shift: arguments.context_shift,
    };
    let bar = progress_bar("reading the prompt", "{pos}/{len} tokens {eta}");
    let mut tokens = Vec::new();
    let mut text = TextOut::new(tokenizer.as_ref(), &arguments.stop, !arguments.json);
    let mut stream = session
        .generate(&prompt, options)
        .with_cancel(interrupted.clone())
        .with_prompt_progress(|done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        });
    let mut stopped = None;
    while let Some(token) = stream.next_token().await {
        device.check()?;
        let token = token?;
        let id = token.id;
        tokens.push(token);
        match text.push(id)? {
            Written::Text => {}
            Written::Stopped => {
                stopped = Some(Finish::StopString);
                break;
            }
            // Nobody reads the text any more.
            Written::Nowhere => break,
        }
    }
    text.finish()?;
    let report = Report {
        adapter: &device.info,
        drafter: &drafter,
        statistics: stream.statistics(),
        finish: stopped.or(stream.finish()),
        choice: &choice,
        prompt: &prompt,
        tokens: &tokens,
        text: &text.whole,
    };
    if arguments.json {
        println!("{}", report.json());
    } else {
        eprint!("\n{}", report.table());
    }
    Ok(match interrupted.is_cancelled() {
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
    stops: StopStrings,
    stream: bool,
    whole: String,
}

/// What became of a token's text.
#[derive(PartialEq, Eq)]
enum Written {
    /// It was written, or is held back.
    Text,
    /// A stop string ended the text.
    Stopped,
    /// Nobody reads standard output any more.
    Nowhere,
}

impl<'a> TextOut<'a> {
    fn new(tokenizer: Option<&'a Tokenizer>, stops: &[String], stream: bool) -> Self {
        Self {
            decoder: tokenizer.map(Tokenizer::decode_stream),
            stops: StopStrings::new(stops),
            stream,
            whole: String::new(),
        }
    }

    fn push(&mut self, token: u32) -> Result<Written, Box<dyn Error>> {
        let piece = match &mut self.decoder {
            Some(decoder) => decoder.push(token)?,
            None => None,
        };
        Ok(piece.map_or(Written::Text, |piece| self.pass(&piece)))
    }

    /// Writes what the stop strings let through.
    fn pass(&mut self, piece: &str) -> Written {
        match self.stops.push(piece) {
            StopStep::Text(text) => match self.write(&text) {
                true => Written::Text,
                false => Written::Nowhere,
            },
            StopStep::Stopped(text) => {
                self.write(&text);
                // What the tokenizer still holds comes after the end.
                self.decoder = None;
                Written::Stopped
            }
        }
    }

    fn finish(&mut self) -> Result<(), Box<dyn Error>> {
        let rest = self.decoder.take().map(DecodeStream::finish).transpose()?;
        if let Some(piece) = rest.flatten() {
            self.pass(&piece);
        }
        let held = self.stops.finish();
        self.write(&held);
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
