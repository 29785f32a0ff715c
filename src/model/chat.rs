//! Chat templates: from a turn of a conversation to the prompt the model was trained on.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use minijinja::{Environment, context, syntax::SyntaxConfig};

use super::{Gguf, Tokenizer, TokenizerError, date};

/// Why a template can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChatError {
    /// The file has no template.
    #[error(
        "the model has no chat template (`tokenizer.chat_template`) and no <|im_start|> token; \
         give the prompt as it is (--raw)"
    )]
    Missing,
    /// The template is not valid, or refused the conversation.
    #[error("the model's chat template failed: {message}; give the prompt as it is (--raw)")]
    Template {
        /// The engine's message.
        message: String,
    },
    /// The template left the user's text out.
    #[error("the model's chat template shows no user text; give the prompt as it is (--raw)")]
    TextMissing,
    /// The template leaves earlier answers out.
    #[error(
        "the model's chat template shows no earlier answer, so that a chat can't go on; give each turn as it is \
         (--raw)"
    )]
    AnswerMissing,
    /// The text can't be tokenised.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// ChatML, for files that have its tokens but no template.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Most a template may add to a conversation; the longest real ones add a few thousand. // bytes
const MAX_TEMPLATE_BYTES: usize = 1 << 20;

/// Most of a tag that marks answers, with generous spaces. // bytes
const MAX_MARK_BYTES: usize = 64;

/// Stands for the user's text while the template is rendered: a private-use character, which no
/// template has.
const PLACEHOLDER: char = '\u{f8fa}';

/// Stands for an answer.
const ANSWER: char = '\u{f8fb}';

/// A model's chat template.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    begin: String,
    end: String,
}

impl ChatTemplate {
    /// The template of a file, ChatML where it has the tokens but no template.
    ///
    /// # Errors
    /// [`ChatError::Missing`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ChatError> {
        let text = |key: &str| gguf.get(key).and_then(|value| value.as_str(key).ok());
        let tokens = gguf.strings("tokenizer.ggml.tokens").unwrap_or_default();
        let source = match text("tokenizer.chat_template") {
            Some(source) => source,
            None if tokens.iter().any(|token| token == "<|im_start|>") => CHATML,
            None => return Err(ChatError::Missing),
        };
        let named = |key: &str| {
            let id = gguf.u32(key).ok().and_then(|id| tokens.get(id as usize));
            id.cloned().unwrap_or_default()
        };
        Ok(Self {
            source: source.to_owned(),
            begin: named("tokenizer.ggml.bos_token_id"),
            end: named("tokenizer.ggml.eos_token_id"),
        })
    }

    /// The prompt for messages of (role, content), ready for the assistant's answer.
    ///
    /// # Errors
    /// [`ChatError::Template`].
    pub fn render(&self, messages: &[(&str, &str)]) -> Result<String, ChatError> {
        let fail = |error: minijinja::Error| ChatError::Template {
            message: error.to_string(),
        };
        let mut environment = Environment::new();
        // As the templates' authors have it: a block takes the line it stands on.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(fail)?);
        // A template comes with a file from anywhere: it may not run for ever.
        environment.set_fuel(Some(1_000_000));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| {
            Err::<String, _>(minijinja::Error::new(
                minijinja::ErrorKind::InvalidOperation,
                message,
            ))
        });
        environment.add_function("strftime_now", |format: String| {
            date::format_now(&format).map_err(|unknown| {
                let message = format!("strftime_now does not know %{unknown}");
                minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message)
            })
        });
        let source = without_marks_of_answers(&self.source);
        let template = environment.template_from_str(&source).map_err(fail)?;
        let shown: usize = messages.iter().map(|(_, content)| content.len()).sum();
        let most = MAX_TEMPLATE_BYTES.saturating_add(shown.saturating_mul(4));
        let messages: Vec<_> = messages
            .iter()
            .map(|&(role, content)| context! { role, content })
            .collect();
        let values = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        };
        let mut prompt = Bounded {
            bytes: Vec::new(),
            most,
            full: false,
        };
        let rendered = template.render_captured_to(values, &mut prompt);
        if prompt.full {
            return Err(ChatError::Template {
                message: format!("the prompt it makes is longer than {most} bytes"),
            });
        }
        rendered.map_err(fail)?;
        String::from_utf8(prompt.bytes).map_err(|error| ChatError::Template {
            message: error.to_string(),
        })
    }

    /// Token ids of a prompt with one user turn. The template's control tokens are recognised,
    /// those in the user's own text are not.
    ///
    /// # Errors
    /// [`ChatError::Template`], [`ChatError::TextMissing`].
    pub fn user_turn(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ChatError> {
        // Spaces around the placeholder tell whether the template trims the text.
        let prompt = self.render(&[("user", &format!(" {PLACEHOLDER} "))])?;
        let ids = encode_around(tokenizer, &prompt, text)?;
        Ok(tokenizer.with_begin(ids))
    }

    /// Token ids of what follows an answer in a conversation: the end of the answer's turn, and one more user turn.
    /// Where the answer's last token, `last`, ends its turn already, it is not repeated.
    ///
    /// # Errors
    /// [`ChatError::Template`], [`ChatError::TextMissing`], [`ChatError::AnswerMissing`].
    pub fn next_turn(
        &self,
        tokenizer: &Tokenizer,
        last: Option<u32>,
        text: &str,
    ) -> Result<Vec<u32>, ChatError> {
        let answer = ANSWER.to_string();
        let user = format!(" {PLACEHOLDER} ");
        let prompt = self.render(&[("user", "-"), ("assistant", &answer), ("user", &user)])?;
        let (_, following) = prompt.rsplit_once(ANSWER).ok_or(ChatError::AnswerMissing)?;
        let mut ids = encode_around(tokenizer, following, text)?;
        let is_end = |id: u32| tokenizer.is_end(id);
        if let (Some(last), Some(&first)) = (last, ids.first())
            && is_end(last)
            && is_end(first)
        {
            ids.remove(0);
        }
        Ok(ids)
    }
}

/// A template without the tags `generation` and `endgeneration`, between which transformers finds the answers that a
/// model is trained on and which the engine does not know (`{% generation %}` in the template of SmolLM3): conditions that
/// always hold stand in their place, with the same marks for white space.
fn without_marks_of_answers(source: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        rest = after;
        // Other tags may be as long as they like.
        let mut pairs = after.as_bytes().windows(2).take(MAX_MARK_BYTES);
        let Some(end) = pairs.position(|pair| pair == b"%}") else {
            continue;
        };
        let (tag, following) = after.split_at(end);
        let white_space = ['-', '+'];
        let name = tag.trim_start_matches(white_space);
        let name = name.trim_end_matches(white_space).trim();
        let instead = match name {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        out.push_str(&tag.replacen(name, instead, 1));
        rest = following;
    }
    match out.is_empty() {
        true => Cow::Borrowed(source),
        false => Cow::Owned(out + rest),
    }
}

/// Token ids of a rendered `prompt` with `text` for the placeholder between two spaces.
fn encode_around(tokenizer: &Tokenizer, prompt: &str, text: &str) -> Result<Vec<u32>, ChatError> {
    if !prompt.contains(PLACEHOLDER) {
        return Err(ChatError::TextMissing);
    }
    let fixed: Vec<&str> = prompt.split(PLACEHOLDER).collect();
    let last = fixed.len() - 1;
    let mut parts = Vec::new();
    let mut text_before = None; // what the template shows of the text, where it shows it
    for (i, mut part) in fixed.into_iter().enumerate() {
        if let Some(mut shown) = text_before.take() {
            match part.strip_prefix(' ') {
                Some(rest) => part = rest,
                None => shown = str::trim_end(shown),
            }
            parts.push((shown, false));
        }
        if i < last {
            text_before = Some(match part.strip_suffix(' ') {
                Some(rest) => {
                    part = rest;
                    text
                }
                None => text.trim_start(),
            });
        }
        parts.push((part, true));
    }
    Ok(tokenizer.encode_parts(parts)?)
}

/// Takes a rendered prompt, but no endless one.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
    full: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_answers_are_conditions_that_hold() {
        let replaced = |source| without_marks_of_answers(source).into_owned();
        assert_eq!(
            replaced("{% if a %}{%- generation -%}x{%endgeneration+%}{% endif %}"),
            "{% if a %}{%- if true -%}x{%endif+%}{% endif %}"
        );
        for unchanged in [
            "",
            "a {% set generation = 1 %}{{ generation }}",
            "{# {% #}{% if generation %}{% endif %}",
            "{% generation",
            "{{ '%}' }} generation",
        ] {
            assert_eq!(replaced(unchanged), unchanged);
        }
        assert_eq!(
            replaced("{# {% #}{% generation %}"),
            "{# {% #}{% if true %}"
        );
    }
}
