//! The options that say how tokens are chosen.

use clap::{Args, ValueEnum};
use sunfleck::{
    generate::{DraftChoice, TokenChoice},
    verify::{self, LossyTypical, Rule},
};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Which drafted tokens are kept [default: greedy at temperature 0, lossless above].
    #[arg(long, value_enum, value_name = "RULE")]
    pub accept: Option<Accept>,

    /// Sampling temperature; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub temperature: f32,

    /// Sample from the K likeliest tokens only; 0 is all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: u32,

    /// Sample from the fewest likeliest tokens whose probabilities sum to P.
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f32,

    /// Sample from tokens at least P times as likely as the likeliest.
    #[arg(long, default_value_t = 0.0, value_name = "P")]
    pub min_p: f32,

    /// Divide positive logits of tokens that occurred by this, and multiply negative ones.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub repetition_penalty: f32,

    /// Subtract this from the logits of tokens that occurred.
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "X",
        allow_negative_numbers = true
    )]
    pub presence_penalty: f32,

    /// How chains are drafted by --drafter mtp, exit and model where tokens are sampled: the likeliest tokens, or drawn from the
    /// drafter's own distribution. The text has the same law.
    #[arg(long, value_enum, default_value_t = Drafts::Likeliest, value_name = "HOW")]
    pub drafts: Drafts,

    /// Key of the random numbers: the same seed and options give the same text on the same adapter.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accept {
    /// What the likeliest token gives; temperature 0.
    Greedy,
    /// Sampled with exactly the model's law, from any draft.
    Lossless,
    /// Sampled with exactly the model's law; chains decided as a whole.
    Block,
    /// Sampled with exactly the model's law; trees decided from their leaves.
    Traversal,
    /// Lossy: drafted tokens that are not unlikely for how unsure the model is.
    Typical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Drafts {
    /// The likeliest token of each place.
    Likeliest,
    /// Drawn by chance.
    Drawn,
}

impl Sampling {
    /// As the library takes it.
    ///
    /// # Errors
    /// A sentence that says which options do not fit each other, or are out of range.
    pub fn choice(&self) -> Result<TokenChoice, String> {
        let cold = self.temperature == 0.0;
        let accept = self.accept.unwrap_or(match cold {
            true => Accept::Greedy,
            false => Accept::Lossless,
        });
        let rule = match accept {
            Accept::Greedy => Rule::Greedy,
            Accept::Lossless => Rule::Rejection,
            Accept::Block => Rule::Block,
            Accept::Traversal => Rule::Traversal,
            Accept::Typical => Rule::LossyTypical(LossyTypical::default()),
        };
        match (rule, cold) {
            (Rule::Greedy, false) => {
                return Err(format!(
                    "--accept greedy takes the likeliest token, which temperature {} does not change; \
                     use --temperature 0 or --accept lossless",
                    self.temperature
                ));
            }
            (Rule::Greedy, true) | (_, false) => {}
            (_, true) => {
                return Err(
                    "this --accept samples, for which temperature 0 has no distribution; give \
                     --temperature, for example 0.8, or use --accept greedy"
                        .to_owned(),
                );
            }
        }
        let choice = TokenChoice {
            rule,
            sampling: verify::Sampling {
                temperature: if cold { 1.0 } else { self.temperature },
                top_k: self.top_k,
                top_p: self.top_p,
                min_p: self.min_p,
                repetition_penalty: self.repetition_penalty,
                presence_penalty: self.presence_penalty,
            },
            seed: self.seed,
            log_probabilities: None,
            drafts: match self.drafts {
                Drafts::Likeliest => DraftChoice::Likeliest,
                Drafts::Drawn => DraftChoice::Drawn,
            },
        };
        choice.check().map_err(|error| error.to_string())?;
        Ok(choice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser as _;

    fn choice(options: &str) -> Result<TokenChoice, String> {
        let line = format!("sunfleck generate hello --model m.gguf {options}");
        let arguments = Arguments::try_parse_from(line.split_whitespace());
        match arguments.map_err(|error| error.to_string())?.command {
            Command::Generate(generate) => generate.sampling.choice(),
            Command::Adapters { .. } => Err("not the generate command".to_owned()),
        }
    }

    #[test]
    fn temperature_decides_the_rule_where_none_is_given() {
        assert_eq!(choice("").unwrap(), TokenChoice::default());
        assert_eq!(choice("--temperature 0.8").unwrap().rule, Rule::Rejection);
        let block = choice("--temperature 0.8 --accept block --seed 7").unwrap();
        assert_eq!((block.rule, block.seed), (Rule::Block, 7));
    }

    #[test]
    fn every_option_arrives() {
        let sampling = choice(
            "--temperature 0.5 --top-k 40 --top-p 0.9 --min-p 0.05 --repetition-penalty 1.1 \
             --presence-penalty -0.5",
        )
        .unwrap()
        .sampling;
        let expected = verify::Sampling {
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.05,
            repetition_penalty: 1.1,
            presence_penalty: -0.5,
        };
        assert_eq!(sampling, expected);
    }

    #[test]
    fn rules_and_numbers_that_do_not_fit_are_refused_with_what_to_do() {
        for (options, advice) in [
            ("--accept greedy --temperature 1", "--accept lossless"),
            ("--accept lossless", "--temperature"),
            ("--accept typical --temperature 0", "--accept greedy"),
            ("--temperature=-1", "temperature"),
            ("--temperature 1 --top-p 1.5", "top_p"),
            ("--temperature 1 --min-p=-0.1", "min_p"),
            ("--repetition-penalty 0", "repetition_penalty"),
        ] {
            let error = choice(options).unwrap_err();
            assert!(error.contains(advice), "{options}: {error}");
        }
    }
}
