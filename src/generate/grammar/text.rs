//! Regular expressions and JSON schemas, by the crate `llguidance`.

use std::sync::Arc;

use llguidance::{
    Matcher, ParserFactory,
    api::{StopReason, TopLevelGrammar},
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};

use super::{Grammar, GrammarError, GrammarState};
use crate::model::Tokenizer;

/// A grammar over the text of an answer: the whole answer matches a regular expression, or is JSON of a schema.
///
/// The answer ends where the grammar accepts and the model wants it to, or where nothing may follow. It can be cut
/// short by the limit of tokens or the context's end; what there is then is the beginning of a match. Control
/// tokens other than those that end an answer are never allowed.
///
/// ```no_run
/// # use sunfleck::{generate::{GenerateOptions, GrammarError, TextGrammar}, model::Tokenizer};
/// # fn example(tokenizer: &Tokenizer) -> Result<(), GrammarError> {
/// let year = TextGrammar::regex(tokenizer, "(19|20)[0-9]{2}")?;
/// let options = GenerateOptions { grammar: Some(std::sync::Arc::new(year)), ..Default::default() };
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TextGrammar {
    matcher: Matcher, // before the first token
    ends: Arc<[u32]>,
    name: &'static str,
}

impl std::fmt::Debug for TextGrammar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TextGrammar")
            .field("kind", &self.name)
            .finish_non_exhaustive()
    }
}

impl TextGrammar {
    /// Answers that match `pattern` as a whole: the syntax of the crate
    /// [`regex`](https://docs.rs/regex/latest/regex/#syntax) without word boundaries; `^` and `$` are of no use.
    ///
    /// # Errors
    /// [`GrammarError::Regex`] with the place of the error, [`GrammarError::Unsupported`],
    /// [`GrammarError::NoEndToken`].
    pub fn regex(tokenizer: &Tokenizer, pattern: &str) -> Result<Self, GrammarError> {
        regex_syntax::parse(pattern).map_err(regex_error)?;
        Self::new(tokenizer, TopLevelGrammar::from_regex(pattern), "regex")
    }

    /// Answers that are JSON and satisfy the JSON schema `schema`, of which `llguidance` says
    /// [what it takes](https://github.com/guidance-ai/llguidance/blob/main/docs/json_schema.md). White space is free
    /// unless the schema has `"x-guidance": {"whitespace_flexible": false}`.
    ///
    /// # Errors
    /// [`GrammarError::Json`] with the place of the error, [`GrammarError::Unsupported`],
    /// [`GrammarError::NoEndToken`].
    pub fn json_schema(tokenizer: &Tokenizer, schema: &str) -> Result<Self, GrammarError> {
        let schema = serde_json::from_str(schema).map_err(|error| GrammarError::Json {
            line: error.line(),
            column: error.column(),
            problem: error.to_string(),
        })?;
        let grammar = TopLevelGrammar::from_json_schema(schema);
        Self::new(tokenizer, grammar, "JSON schema")
    }

    fn new(
        tokenizer: &Tokenizer,
        grammar: TopLevelGrammar,
        name: &'static str,
    ) -> Result<Self, GrammarError> {
        let ends: Arc<[u32]> = tokenizer.end_tokens().into();
        let Some(&end) = ends.first() else {
            return Err(GrammarError::NoEndToken);
        };
        let words = tokenizer.text_bytes();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie.with_eos_tokens(&ends)));
        // Sets of tokens that most strings of JSON allow, made once: masks inside of strings are then cheap.
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let refused = |error: String| GrammarError::Unsupported {
            problem: first_line(&error),
        };
        let capabilities = InferenceCapabilities::default();
        let factory = ParserFactory::new(&environment, capabilities, &slices);
        let mut factory = factory.map_err(|error| refused(error.to_string()))?;
        factory.quiet();
        factory.limits_mut().verbose_errors = false;
        let matcher = Matcher::new(factory.create_parser(grammar));
        match matcher.get_error() {
            Some(error) => Err(refused(error)),
            None => Ok(Self {
                matcher,
                ends,
                name,
            }),
        }
    }
}

fn regex_error(error: regex_syntax::Error) -> GrammarError {
    let (span, problem) = match &error {
        regex_syntax::Error::Parse(error) => (*error.span(), error.kind().to_string()),
        regex_syntax::Error::Translate(error) => (*error.span(), error.kind().to_string()),
        error => {
            return GrammarError::Unsupported {
                problem: error.to_string(),
            };
        }
    };
    GrammarError::Regex {
        line: span.start.line,
        column: span.start.column,
        problem,
    }
}

/// Without the listing of a grammar that the user has not written.
fn first_line(error: &str) -> String {
    let line = error.lines().find(|line| line.starts_with("error: "));
    let line = line.or(error.lines().next()).unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

impl Grammar for TextGrammar {
    fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
        Ok(Box::new(TextState {
            // Caches of its own: sessions of several threads do not wait for each other.
            matcher: self.matcher.deep_clone(),
            ends: self.ends.clone(),
            ended: 0,
        }))
    }
}

struct TextState {
    matcher: Matcher,
    ends: Arc<[u32]>,
    ended: usize, // tokens from the one on that ended the answer
}

fn too_complex(error: impl std::fmt::Display) -> GrammarError {
    GrammarError::TooComplex {
        problem: first_line(&error.to_string()),
    }
}

impl TextState {
    fn allow_ends(&self, allowed: &mut [u32], may_end: bool) {
        for &end in self.ends.iter() {
            if let Some(word) = allowed.get_mut(end as usize / 32) {
                let bit = 1 << (end % 32);
                *word = if may_end { *word | bit } else { *word & !bit };
            }
        }
    }
}

impl GrammarState for TextState {
    fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
        if self.ended > 0 || self.matcher.stop_reason() == StopReason::NoExtension {
            self.allow_ends(allowed, true);
            return Ok(());
        }
        let mask = self.matcher.compute_mask().map_err(too_complex)?;
        for (word, bits) in allowed.iter_mut().zip(mask.as_slice()) {
            *word = *bits;
        }
        let accepts = self.matcher.is_accepting().map_err(too_complex)?;
        self.allow_ends(allowed, accepts);
        Ok(())
    }

    fn push(&mut self, token: u32) -> Result<(), GrammarError> {
        if self.ended > 0 || self.ends.contains(&token) {
            self.ended += 1;
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(too_complex)
    }

    fn pop(&mut self, tokens: usize) -> Result<(), GrammarError> {
        let of_end = tokens.min(self.ended);
        self.ended -= of_end;
        match tokens - of_end {
            0 => Ok(()),
            tokens => self.matcher.rollback(tokens).map_err(too_complex),
        }
    }
}
