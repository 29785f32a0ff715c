//! `--prompts FILE`: a prompt a line, several answered at once, an answer a line of JSON.

use std::{collections::BTreeMap, error::Error, path::Path};

use serde_json::json;
use sunfleck::{
    draft::Drafter,
    generate::{
        AnswerId, Batch, CancelHandle, Finish, GenerateError, GenerateOptions, StopStep,
        StopStrings, Token,
    },
    model::Tokenizer,
};

use crate::{adapter::OpenDevice, chat::Turns, print, report::finish_name};

/// A line of a file with prompts.
#[derive(Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Number of the line, from 0.
    line: usize,
    text: String,
}

/// The prompts of a file: its lines, but for empty ones.
///
/// # Errors
/// A sentence that names the file.
pub fn read(path: &Path) -> Result<Vec<Prompt>, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    let prompts = prompts_of(&text);
    match prompts.is_empty() {
        true => Err(format!("{}: there is no prompt in it", path.display())),
        false => Ok(prompts),
    }
}

fn prompts_of(text: &str) -> Vec<Prompt> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, text)| !text.trim().is_empty())
        .map(|(line, text)| Prompt {
            line,
            text: text.to_owned(),
        })
        .collect()
}

/// What a run answers, and how.
pub struct Prompts<'a> {
    pub prompts: &'a [Prompt],
    pub turns: &'a Turns<'a>,
    pub tokenizer: &'a Tokenizer,
    pub options: &'a GenerateOptions,
    pub stops: &'a [String],
    pub cancel: &'a CancelHandle,
    pub device: &'a OpenDevice,
}

/// An answer under way.
struct Answer<'a> {
    prompt: &'a Prompt,
    prompt_tokens: usize,
    tokens: Vec<Token>,
}

impl<'a> Prompts<'a> {
    /// Answers all prompts, and prints each answer when it has ended, or why a prompt has none. Returns how many have
    /// none.
    ///
    /// # Errors
    /// Those of decoding, of the device, and of standard output.
    pub async fn answer(
        &self,
        batch: &mut Batch,
        drafter: &dyn Fn() -> Result<Box<dyn Drafter>, String>,
    ) -> Result<usize, Box<dyn Error>> {
        let mut waiting = self.prompts.iter();
        let mut answers = BTreeMap::new();
        let mut refused = 0;
        loop {
            while batch.room() > 0
                && let Some(prompt) = waiting.next()
            {
                match self.join(batch, prompt, drafter()?).await? {
                    Ok((id, answer)) => {
                        answers.insert(id, answer);
                    }
                    // The prompt's own fault: the others are answered.
                    Err(error) => {
                        refused += 1;
                        let (index, prompt) = (prompt.line, &prompt.text);
                        let line = json!({ "index": index, "prompt": prompt, "error": error });
                        if !print::line(line)? {
                            return Ok(refused);
                        }
                    }
                }
            }
            if batch.is_empty() || self.cancel.is_cancelled() {
                return Ok(refused);
            }
            let parts = match batch.step().await {
                Ok(parts) => parts,
                Err(error) => {
                    self.broken_off(&answers, &error)?;
                    return Err(error.into());
                }
            };
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
                    "index": answer.prompt.line,
                    "prompt": answer.prompt.text,
                    "text": text,
                    "tokens": ids,
                    "prompt_tokens": answer.prompt_tokens,
                    "steps": part.statistics.steps,
                    "accepted_per_step": part.statistics.accepted_per_step(),
                    "finish": finish_name(Some(finish)),
                });
                if !print::line(line)? {
                    return Ok(refused);
                }
                answers.remove(&part.answer);
            }
        }
    }

    /// Prints what answers under way have so far, with the error that ends all of them.
    fn broken_off(
        &self,
        answers: &BTreeMap<AnswerId, Answer>,
        error: &GenerateError,
    ) -> Result<(), Box<dyn Error>> {
        for answer in answers.values() {
            let ids: Vec<u32> = answer.tokens.iter().map(|token| token.id).collect();
            let line = json!({
                "index": answer.prompt.line,
                "prompt": answer.prompt.text,
                "text": self.text(&answer.tokens)?.0,
                "tokens": ids,
                "prompt_tokens": answer.prompt_tokens,
                "error": error.to_string(),
            });
            if !print::line(line)? {
                break;
            }
        }
        Ok(())
    }

    /// Has a prompt join the batch; the inner error is one of this prompt alone.
    async fn join(
        &self,
        batch: &mut Batch,
        prompt: &'a Prompt,
        drafter: Box<dyn Drafter>,
    ) -> Result<Result<(AnswerId, Answer<'a>), String>, GenerateError> {
        let tokens = match self.turns.first(&prompt.text) {
            Ok(tokens) => tokens,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let joined = batch.join(&tokens, self.options.clone(), drafter).await;
        match joined {
            Ok(id) => {
                let answer = Answer {
                    prompt,
                    prompt_tokens: tokens.len(),
                    tokens: Vec::new(),
                };
                Ok(Ok((id, answer)))
            }
            Err(
                error @ (GenerateError::EmptyPrompt
                | GenerateError::PromptTooLong { .. }
                | GenerateError::UnknownToken { .. }),
            ) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_have_the_numbers_of_their_lines() {
        let prompt = |line, text: &str| Prompt {
            line,
            text: text.to_owned(),
        };
        assert_eq!(
            prompts_of("\nwhy\n  \r\n how \n"),
            [prompt(1, "why"), prompt(3, " how ")]
        );
        assert_eq!(prompts_of(" \n"), []);
    }
}
