//! What is asked of the benchmark.

use std::path::PathBuf;

/// The texts at whose every place drafts are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Texts {
    /// Answers to the fifty prompts.
    Prompts,
    /// Texts as the trained drafters' own statistics were counted on.
    Training,
}

/// The arguments of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Parts of contenders' names; none for all of them.
    pub words: Vec<String>,
    /// Prompts to answer, or texts.
    pub prompts: usize,
    /// Of one kind alone.
    pub kind: Option<String>,
    /// Most tokens of an answer.
    pub tokens: usize,
    /// Whether an answer goes on where the model ends its turn.
    pub past_end: bool,
    /// Tokens that trained drafters can draft; `None` for all.
    pub vocabulary: Option<usize>,
    /// A smaller model of the same vocabulary.
    pub draft_model: Option<PathBuf>,
    /// Whether prompts that the file of an earlier run has are left out.
    pub resume: bool,
    /// Whether drafts are counted at every place of texts, instead of answers timed.
    pub places: Option<Texts>,
    /// Whether contenders are only listed.
    pub list: bool,
    /// Whether cargo asks for a measurement.
    pub measure: bool,
}

/// What there is, for who asks for something else.
const OPTIONS: &str = "--prompts N, --tokens N, --kind NAME, --past-end, --vocabulary N|all, --draft-model FILE, --resume, \
                       --places prompts|training, --quick, --list";

impl Arguments {
    /// Reads them.
    pub fn parse(given: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            words: Vec::new(),
            prompts: 4,
            kind: None,
            tokens: 48,
            past_end: false,
            vocabulary: Some(8192),
            draft_model: None,
            resume: false,
            places: None,
            list: false,
            measure: false,
        };
        let mut given = given.into_iter();
        while let Some(argument) = given.next() {
            let mut value = || given.next().ok_or(format!("{argument} needs a value"));
            let number = |value: String| match value.parse() {
                Ok(number @ 1..) => Ok(number),
                _ => Err(format!("{value:?} is no number above 0")),
            };
            match argument.as_str() {
                "--bench" => arguments.measure = true,
                // As criterion's, for a run of all benchmarks.
                "--quick" => (arguments.prompts, arguments.tokens) = (2, 24),
                "--list" => arguments.list = true,
                "--past-end" => arguments.past_end = true,
                "--resume" => arguments.resume = true,
                "--prompts" => arguments.prompts = number(value()?)?,
                "--tokens" => arguments.tokens = number(value()?)?,
                "--kind" => arguments.kind = Some(value()?),
                "--draft-model" => arguments.draft_model = Some(value()?.into()),
                "--vocabulary" => {
                    arguments.vocabulary = match value()?.as_str() {
                        "all" => None,
                        size => Some(number(size.to_owned())?),
                    }
                }
                "--places" => {
                    arguments.places = Some(match value()?.as_str() {
                        "prompts" => Texts::Prompts,
                        "training" => Texts::Training,
                        other => {
                            return Err(format!("--places takes prompts or training, not {other}"));
                        }
                    })
                }
                option if option.starts_with("--") => {
                    return Err(format!("{option} is none of {OPTIONS}"));
                }
                word => arguments.words.push(word.to_owned()),
            }
        }
        Ok(arguments)
    }

    /// Whether a contender of this name takes part.
    pub fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// The draft vocabulary in words.
    pub fn vocabulary_text(&self) -> String {
        self.vocabulary
            .map_or_else(|| "all tokens".to_owned(), |size| format!("{size} tokens"))
    }
}
