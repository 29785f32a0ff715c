//! What is asked of the benchmark.

/// The arguments of a run.
#[derive(Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Parts of contenders' names; none for all of them.
    pub words: Vec<String>,
    /// Prompts to answer.
    pub prompts: usize,
    /// Of one kind alone.
    pub kind: Option<String>,
    /// Tokens of an answer.
    pub tokens: usize,
    /// Whether contenders are only listed.
    pub list: bool,
    /// Whether cargo asks for a measurement.
    pub measure: bool,
}

impl Arguments {
    /// Reads them.
    pub fn parse(given: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self {
            words: Vec::new(),
            prompts: 4,
            kind: None,
            tokens: 48,
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
                "--list" => arguments.list = true,
                "--prompts" => arguments.prompts = number(value()?)?,
                "--tokens" => arguments.tokens = number(value()?)?,
                "--kind" => arguments.kind = Some(value()?),
                option if option.starts_with("--") => {
                    return Err(format!(
                        "{option} is none of --prompts N, --tokens N, --kind NAME, --list"
                    ));
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
}
