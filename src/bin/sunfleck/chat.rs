//! `sunfleck generate --interactive`: a chat whose history stays in the session's cache.

use std::{
    error::Error,
    io::{BufRead, IsTerminal as _, Write as _},
    path::Path,
};

use sunfleck::{
    generate::{CancelHandle, Finish, GenerateError, GenerateOptions, Session},
    model::{ChatTemplate, Gguf, Tokenizer},
};

use crate::{
    adapter::OpenDevice,
    answer::{self, Answer, Output},
    arguments::Generate,
    color::Palette,
    session_file,
};

const HELP: &str = "\
  /reset        forget the conversation
  /save FILE    write the conversation to a file
  /load FILE    go on with the conversation in a file
  /help         this list
  //TEXT        say /TEXT
  Ctrl-C ends an answer, Ctrl-D the chat.";

/// How a user's text becomes tokens after what a session holds.
pub struct Turns<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>, // none: as it is
}

impl<'a> Turns<'a> {
    pub fn new(
        arguments: &Generate,
        gguf: &Gguf,
        tokenizer: &'a Tokenizer,
    ) -> Result<Self, Box<dyn Error>> {
        let template = match arguments.raw {
            true => None,
            false => Some(ChatTemplate::from_gguf(gguf)?),
        };
        Ok(Self {
            tokenizer,
            template,
        })
    }

    /// Tokens of the first turn of a conversation.
    pub fn first(&self, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
        self.after(None, text)
    }

    /// Tokens of a turn: the whole prompt in an empty session, otherwise only what follows.
    pub fn tokens(&self, session: &Session, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
        self.after(session.tokens().last().copied(), text)
    }

    fn after(&self, last: Option<u32>, text: &str) -> Result<Vec<u32>, Box<dyn Error>> {
        Ok(match (&self.template, last) {
            (Some(template), None) => template.user_turn(self.tokenizer, text)?,
            (Some(template), last) => template.next_turn(self.tokenizer, last, text)?,
            (None, None) => self.tokenizer.encode_prompt(text)?,
            (None, Some(_)) => self.tokenizer.encode(text, true)?,
        })
    }
}

/// A chat.
pub struct Chat<'a> {
    pub session: &'a mut Session,
    pub turns: &'a Turns<'a>,
    pub options: &'a GenerateOptions,
    pub stops: &'a [String],
    pub palette: Palette,
    pub legend: Option<String>,
    pub cancel: &'a CancelHandle,
    pub device: &'a OpenDevice,
}

/// What a line of the user means.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Nothing,
    Say(&'a str),
    Reset,
    Help,
    Save(&'a Path),
    Load(&'a Path),
    /// A command that can't be followed, and why.
    Wrong(String),
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Self {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return match line {
                "" => Self::Nothing,
                text => Self::Say(text),
            };
        };
        if command.starts_with('/') {
            return Self::Say(command);
        }
        let (name, file) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        match (name, file.trim()) {
            ("reset", "") => Self::Reset,
            ("help", "") => Self::Help,
            ("save" | "load", "") => Self::Wrong(format!("/{name} needs a file: /{name} FILE")),
            ("save", file) => Self::Save(Path::new(file)),
            ("load", file) => Self::Load(Path::new(file)),
            _ => Self::Wrong(format!("no command is called {line}; /help lists them")),
        }
    }
}

impl Chat<'_> {
    /// Answers `first` and then every line of `input`, to its end.
    pub async fn run(
        &mut self,
        first: Option<&str>,
        input: &mut dyn BufRead,
    ) -> Result<(), Box<dyn Error>> {
        let at_terminal = std::io::stdin().is_terminal();
        if at_terminal {
            eprintln!("{HELP}");
        }
        if let Some(legend) = &self.legend {
            eprintln!("  {legend}");
        }
        let mut out = Output::new(Some(self.palette));
        if let Some(text) = first {
            self.say(text, &mut out).await?;
        }
        let mut bytes = Vec::new();
        while out.is_open() {
            if at_terminal {
                eprint!("> ");
                let _ = std::io::stderr().flush();
            }
            bytes.clear();
            if input.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            let line = String::from_utf8_lossy(&bytes);
            match Line::parse(&line) {
                Line::Nothing => {}
                Line::Say(text) => self.say(text, &mut out).await?,
                Line::Reset => {
                    self.session.reset();
                    eprintln!("  forgotten");
                }
                Line::Help => eprintln!("{HELP}"),
                Line::Save(path) => match session_file::save(self.session, path).await {
                    Ok(()) => self.tell_size("saved"),
                    Err(error) => eprintln!("  {error}"),
                },
                Line::Load(path) => match session_file::load(self.session, path) {
                    Ok(()) => self.tell_size("loaded"),
                    Err(error) => eprintln!("  {error}"),
                },
                Line::Wrong(why) => eprintln!("  {why}"),
            }
        }
        Ok(())
    }

    fn tell_size(&self, what: &str) {
        eprintln!("  {what} {} tokens", self.session.tokens().len());
    }

    /// Answers a turn. What only this turn is too long for does not end the chat.
    async fn say(&mut self, text: &str, out: &mut Output) -> Result<(), Box<dyn Error>> {
        let tokens = self.turns.tokens(self.session, text)?;
        // What was asked for while nothing was answered is not meant for this answer.
        self.cancel.clear();
        self.make_room(tokens.len()).await?;
        let stream = (self.session)
            .generate(&tokens, self.options.clone())
            .with_cancel(self.cancel.clone());
        let tokenizer = Some(self.turns.tokenizer);
        let answer = answer::write(stream, tokenizer, self.stops, out, self.device).await;
        self.cancel.clear();
        match answer {
            Ok(answer) => {
                eprintln!("  {}", summary(&answer));
                Ok(())
            }
            Err(error) => match error.downcast_ref::<GenerateError>() {
                Some(GenerateError::PromptTooLong { .. } | GenerateError::EmptyPrompt) => {
                    eprintln!("  {error}; or begin anew with /reset");
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Shifts the context, where that is wanted, until `tokens` more fit.
    async fn make_room(&mut self, tokens: usize) -> Result<(), GenerateError> {
        let Some(sinks) = self.options.context_shift else {
            return Ok(());
        };
        let context = self.session.decoder().options().context as usize;
        loop {
            let held = self.session.tokens().len();
            if held + tokens <= context {
                return Ok(());
            }
            self.session.shift_context(sinks).await?;
            if self.session.tokens().len() == held {
                return Ok(());
            }
        }
    }
}

/// A line about an answer.
fn summary(answer: &Answer) -> String {
    let s = &answer.statistics;
    let end = match answer.finish {
        Some(Finish::MaxTokens) => ", cut at --max-tokens",
        Some(Finish::ContextFull) => ", the context is full: /reset or --context-shift",
        Some(Finish::Cancelled) => ", stopped",
        _ => "",
    };
    format!(
        "[{} tokens read, {} written in {} steps, {} of {} drafted kept, {:.1} tokens/s{end}]",
        s.prompt_tokens,
        s.tokens,
        s.steps,
        s.accepted,
        s.drafted,
        s.decode_tokens_per_second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_from_commands() {
        assert_eq!(Line::parse(" \r\n"), Line::Nothing);
        assert_eq!(Line::parse("hello /reset\n"), Line::Say("hello /reset"));
        assert_eq!(
            Line::parse("//etc is a folder"),
            Line::Say("/etc is a folder")
        );
        assert_eq!(Line::parse("/reset\r\n"), Line::Reset);
        assert_eq!(Line::parse("/help"), Line::Help);
        assert_eq!(
            Line::parse("/save my chat"),
            Line::Save(Path::new("my chat"))
        );
        assert_eq!(Line::parse("/load\ta"), Line::Load(Path::new("a")));
        for wrong in ["/save", "/load ", "/rest", "/", "/help me"] {
            assert!(matches!(Line::parse(wrong), Line::Wrong(_)), "{wrong}");
        }
    }
}
