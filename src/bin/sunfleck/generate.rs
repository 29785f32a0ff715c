//! `sunfleck generate`.

use std::{
    error::Error,
    io::{IsTerminal as _, Read, Seek},
    path::Path,
    process::ExitCode,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sunfleck::{
    draft::{Auto, NoDrafter},
    generate::{Batch, CancelHandle, GenerateOptions, Session, TokenChoice},
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf, Tokenizer, TokenizerError, gguf, hugging_face},
};

use crate::{
    adapter::OpenDevice,
    answer::{self, Output},
    arguments::Generate,
    chat::{Chat, Turns},
    color::Palette,
    costs_file, drafters, grammar, print,
    prompts::{self, Prompts},
    report::Report,
    session_file,
    tree_size::TreeSize,
};

/// Prompts that are answered at once where nothing is said.
const AT_ONCE: u32 = 4;
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
pub trait Weights: Read + Seek {}
impl<R: Read + Seek> Weights for R {}

/// A GGUF file, the first of several, or a folder with safetensors files.
pub fn open_model(path: &Path) -> Result<(Gguf, Box<dyn Weights>), String> {
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
        log_probabilities: arguments.log_probabilities,
        ..arguments.sampling.choice()?
    };
    drafters::check(arguments)?;
    let path = &arguments.model;
    let (gguf, mut reader) = open_model(path)?;
    let in_file = |error: &dyn Error| format!("{}: {error}", path.display());
    let tokenizer = match Tokenizer::from_gguf(&gguf) {
        Ok(tokenizer) => Some(tokenizer),
        // Token ids in, token ids out needs none.
        Err(TokenizerError::TokenizerMissing) if arguments.prompt_tokens.is_some() => None,
        Err(error) => return Err(in_file(&error).into()),
    };
    let text = text(arguments)?;
    let prompts = (arguments.prompts.as_deref())
        .map(prompts::read)
        .transpose()?;
    let turns = match (&tokenizer, &arguments.prompt_tokens) {
        (Some(tokenizer), None) => Some(Turns::new(arguments, &gguf, tokenizer)?),
        _ => None,
    };

    let grammar = match (&arguments.grammar, &tokenizer) {
        (Some(path), Some(tokenizer)) => Some(grammar::read(path, tokenizer)?),
        _ => None,
    };

    let device = OpenDevice::open(arguments.adapter.as_deref()).await?;
    let gpu = Gpu::new(&device.device, &device.queue);
    let options = DecoderOptions {
        context: arguments.context,
        cache: arguments.kv.into(),
        page: arguments.page,
        ..Default::default()
    };
    let options = DecoderOptions {
        sequences: prompts
            .as_ref()
            .map_or(1, |_| arguments.at_once.unwrap_or(AT_ONCE)),
        max_draft: (arguments.tree)
            .map_or(0, TreeSize::max_draft)
            .max(options.max_draft),
        ..options
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

    let end_tokens = (tokenizer.as_ref())
        .map(Tokenizer::end_tokens)
        .unwrap_or_default();
    let generate_options = GenerateOptions {
        max_tokens: arguments.max_tokens,
        end_tokens,
        choice,
        grammar,
        context_shift: arguments.context_shift,
    };
    if let (Some(prompts), Some(turns), Some(tokenizer)) = (&prompts, &turns, &tokenizer) {
        let run = Prompts {
            prompts,
            turns,
            tokenizer,
            options: &generate_options,
            stops: &arguments.stop,
            cancel: interrupted,
            device: &device,
        };
        let mut batch = Batch::new(&gpu, decoder).await?;
        let drafter = || drafters::on_host(arguments);
        let refused = run.answer(&mut batch, &drafter).await?;
        return match refused == 0 || interrupted.is_cancelled() {
            true => Ok(exit_code(interrupted)),
            false => Err(format!("{refused} of {} prompts were refused", prompts.len()).into()),
        };
    }

    let drafter = drafters::load(arguments, &gpu, &decoder, &gguf, &mut reader).await?;
    let bounded = match arguments.tree {
        Some(size) => size.bound(drafter),
        None => drafter,
    };
    let mut session = Session::new(&gpu, decoder, bounded);
    if arguments.tree == Some(TreeSize::Auto) {
        let (costs, measured) = costs_file::costs(&mut session, &device.info).await?;
        device.check()?;
        if arguments.explain && measured {
            eprintln!("measured what steps cost here");
        }
        let inner = session.set_drafter(Box::new(NoDrafter));
        session.set_drafter(Box::new(Auto::new(inner, costs)));
    }
    if let Some(path) = &arguments.load_session {
        session_file::load(&mut session, path)?;
    }
    let drafter = session.drafter().to_owned();
    let options = generate_options;
    let palette = Palette::new(arguments.color, std::io::stdout().is_terminal());
    if let (true, Some(turns)) = (arguments.interactive, &turns) {
        let mut chat = Chat {
            session: &mut session,
            turns,
            options: &options,
            stops: &arguments.stop,
            palette,
            legend: palette.legend(arguments.color),
            cancel: interrupted,
            device: &device,
        };
        chat.run(text.as_deref(), &mut std::io::stdin().lock())
            .await?;
        explain(arguments, &session);
        save(arguments, &session).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let prompt = match (&arguments.prompt_tokens, &turns) {
        (Some(path), _) => token_ids(path)?,
        (None, Some(turns)) => turns.tokens(&session, text.as_deref().unwrap_or_default())?,
        (None, None) => return Err(TokenizerError::TokenizerMissing.into()),
    };
    let bar = progress_bar("reading the prompt", "{pos}/{len} tokens {eta}");
    let stream = session
        .generate(&prompt, options)
        .with_cancel(interrupted.clone())
        .with_prompt_progress(|done, total| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            if done == total {
                bar.finish_and_clear();
            }
        });
    let mut out = Output::new((!arguments.json).then_some(palette));
    let tokenizer = tokenizer.as_ref();
    let answer = answer::write(stream, tokenizer, &arguments.stop, &mut out, &device).await?;
    save(arguments, &session).await?;
    let report = Report {
        adapter: &device.info,
        drafter: &drafter,
        statistics: &answer.statistics,
        finish: answer.finish,
        choice: &choice,
        prompt: &prompt,
        tokens: &answer.tokens,
        text: &answer.text,
        legend: palette.legend(arguments.color),
    };
    if arguments.json {
        print::line(report.json())?;
    } else {
        eprint!("\n{}", report.table());
    }
    explain(arguments, &session);
    Ok(exit_code(interrupted))
}

fn exit_code(interrupted: &CancelHandle) -> ExitCode {
    match interrupted.is_cancelled() {
        true => ExitCode::from(INTERRUPTED),
        false => ExitCode::SUCCESS,
    }
}

/// Token ids from a file.
fn token_ids(path: &Path) -> Result<Vec<u32>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{} can't be read: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| {
        format!(
            "{} is not a JSON array of token ids: {error}",
            path.display()
        )
        .into()
    })
}

/// The text of the prompt, from the command line or standard input.
fn text(arguments: &Generate) -> Result<Option<String>, Box<dyn Error>> {
    match arguments.prompt.as_deref() {
        Some("-") if arguments.interactive => {
            Err("a chat reads its turns from standard input; leave the prompt `-` out".into())
        }
        Some("-") => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            Ok(Some(text))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

/// Tells what `--tree auto` chose in the end; with `--explain` also by which costs and rates.
fn explain(arguments: &Generate, session: &Session) {
    let text = match (session.explain(), arguments.explain) {
        (None, false) => return,
        (None, true) => "tree        of a fixed size: nothing was decided\n".to_owned(),
        (Some(text), true) => text,
        (Some(text), false) => {
            let choice = text.lines().filter(|line| line.starts_with("choice"));
            choice.map(|line| format!("{line}\n")).collect()
        }
    };
    let lines = text.lines().map(|line| format!("  {line}\n"));
    eprint!("{}", lines.collect::<String>());
}

async fn save(arguments: &Generate, session: &Session) -> Result<(), Box<dyn Error>> {
    match &arguments.save_session {
        Some(path) => session_file::save(session, path).await,
        None => Ok(()),
    }
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
