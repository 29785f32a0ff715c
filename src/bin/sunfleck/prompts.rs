//! `--prompts FILE`: a prompt a line, several answered at once, an answer a line of JSON.

use std::{collections::BTreeMap, error::Error, path::Path};

use serde_json::json;
use sunfleck::{
    draft::Drafter,
    generate::{Batch, CancelHandle, Finish, GenerateOptions, StopStep, StopStrings, Token},
    model::Tokenizer,
};

use crate::{adapter::OpenDevice, chat::Turns, report::finish_name};

/// The prompts of a file: its lines, of which empty ones do not count.
///
/// # Errors
/// A sentence that names the file.
pub fn read(path: &Path) -> Result<Vec<String>, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let prompts: Vec<String> = lines.map(str::to_owned).collect();
    match prompts.is_empty() {
        true => Err(format!("{}: there is no prompt in it", path.display())),
        false => Ok(prompts),
    }
}

/// What a run answers, and how.
pub struct Prompts<'a> {
    pub prompts: &'a [String],
    pub turns: &'a Turns<'a>,
    pub tokenizer: &'a Tokenizer,
    pub options: &'a GenerateOptions,
    pub stops: &'a [String],
    pub cancel: &'a CancelHandle,
    pub device: &'a OpenDevice,
}

/// An answer under way.
struct Answer {
    index: usize,
    prompt_tokens: usize,
    tokens: Vec<Token>,
}

impl Prompts<'_> {
    /// Answers all prompts, and prints each answer when it has ended.
    ///
    /// # Errors
    /// Those of the prompts, of decoding and of the device.
    pub async fn answer(
        &self,
        batch: &mut Batch,
        drafter: &dyn Fn() -> Result<Box<dyn Drafter>, String>,
    ) -> Result<(), Box<dyn Error>> {
        let mut waiting = self.prompts.iter().enumerate();
        let mut answers = BTreeMap::new();
        loop {
            while batch.room() > 0
                && let Some((index, prompt)) = waiting.next()
            {
                let tokens = self.turns.first(prompt)?;
                let id = batch
                    .join(&tokens, self.options.clone(), drafter()?)
                    .await?;
                answers.insert(
                    id,
                    Answer {
                        index,
                        prompt_tokens: tokens.len(),
                        tokens: Vec::new(),
                    },
                );
            }
            if batch.is_empty() || self.cancel.is_cancelled() {
                return Ok(());
            }
            let parts = batch.step().await?;
            self.device.check()?;
            for part in parts {
                let Some(answer) = answers.get_mut(&part.answer) else {
                    continue;
                };
                answer.tokens.extend(part.tokens);
                let (text, stopped) = self.text(&answer.tokens)?;
                let finish = match (stopped, part.finish) {
                    (true, _) => Some(Finish::StopString),
                    (false, finish) => finish,
                };
                let Some(finish) = finish else { continue };
                batch.leave(part.answer);
                let ids: Vec<u32> = answer.tokens.iter().map(|token| token.id).collect();
                let line = json!({
                    "index": answer.index,
                    "prompt": self.prompts[answer.index],
                    "text": text,
                    "tokens": ids,
                    "prompt_tokens": answer.prompt_tokens,
                    "steps": part.statistics.steps,
                    "accepted_per_step": part.statistics.accepted_per_step(),
                    "finish": finish_name(Some(finish)),
                });
                println!("{line}");
                answers.remove(&part.answer);
            }
        }
    }

    /// The text of an answer, and whether a stop string ended it.
    fn text(&self, tokens: &[Token]) -> Result<(String, bool), Box<dyn Error>> {
        let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
        let whole = self.tokenizer.decode(&ids)?;
        let mut stops = StopStrings::new(self.stops);
        Ok(match stops.push(&whole) {
            StopStep::Stopped(text) => (text, true),
            StopStep::Text(mut text) => {
                text.push_str(&stops.finish());
                (text, false)
            }
        })
    }
}
