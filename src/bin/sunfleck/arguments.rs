//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sunfleck::attention::Element;

use crate::{color::ColorWhen, drafters::DrafterName, sampling::Sampling, tree_size::TreeSize};

/// Text generation with speculative decoding on any GPU.
#[derive(Debug, Parser)]
#[command(name = "sunfleck", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer a prompt; the text streams to standard output, everything else to standard error.
    Generate(Box<Generate>),
    /// List the GPU adapters of this machine.
    Adapters {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct Generate {
    /// The prompt; `-` reads it from standard input.
    #[arg(
        required_unless_present_any = ["prompt_tokens", "prompts", "interactive"],
        conflicts_with_all = ["prompt_tokens", "prompts"]
    )]
    pub prompt: Option<String>,

    /// A file with the prompt as a JSON array of token ids, used as it is.
    #[arg(long, value_name = "FILE")]
    pub prompt_tokens: Option<PathBuf>,

    /// A file with a prompt a line: several are answered at once, and each answer is printed as a line of JSON
    /// when it has ended.
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["prompt_tokens", "interactive", "load_session", "save_session", "tree",
                                "context_shift", "json"])]
    pub prompts: Option<PathBuf>,

    /// With --prompts: how many are answered at once [default: 4].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=64))]
    pub at_once: Option<u32>,

    /// Chat: read turn after turn from standard input, the prompt first if there is one. Ctrl-C ends an answer,
    /// Ctrl-D the chat; /help lists the commands.
    #[arg(short, long, conflicts_with_all = ["json", "prompt_tokens"])]
    pub interactive: bool,

    /// Go on with a session that --save-session or /save wrote; the prompt is its next turn.
    #[arg(long, value_name = "FILE")]
    pub load_session: Option<PathBuf>,

    /// Write the session to this file at the end: tokens, keys and values.
    #[arg(long, value_name = "FILE")]
    pub save_session: Option<PathBuf>,

    /// Colour the answer by how its tokens came about: drafted and kept, bonus after a draft, or plain. `auto`
    /// does so on a terminal where NO_COLOR is not set.
    #[arg(long, value_enum, default_value_t = ColorWhen::Auto, value_name = "WHEN")]
    pub color: ColorWhen,

    /// Use the prompt as it is, without the model's chat template.
    #[arg(long)]
    pub raw: bool,

    /// The model: a GGUF file of a Llama, Mistral, Qwen2, Qwen3 or SmolLM model with F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1,
    /// Q8_0, Q4_K, Q5_K or Q6_K weights; of a model in several files, the first. Or a folder with
    /// config.json, tokenizer.json and safetensors files (F32, F16, BF16).
    #[arg(long, value_name = "FILE.gguf", env = "SUNFLECK_MODEL")]
    pub model: PathBuf,

    /// Who drafts tokens for the model to check. `none`: nobody. `ngram`: a look-up of what followed the last tokens
    /// earlier in prompt and answer. With trained weights: `mtp`, a module on the model's features; `medusa`, heads on
    /// them; `exit`, the model's own first layers. `model`: a smaller model. Also `ngram+mtp`, and so on: the
    /// other where the look-up finds nothing. A greedy text stays the same (after a fork of a tree unless two tokens are
    /// equally likely to the last bits), a sampled one keeps its law.
    #[arg(long, default_value = "ngram", value_name = "NAME")]
    pub drafter: DrafterName,

    /// How much is drafted at a time: `chain:K` for chains of K tokens, N for trees of N nodes, or `auto` for
    /// what gives most tokens a second here, which may be nothing [default: what suits the drafter].
    #[arg(long, value_name = "auto|chain:K|N")]
    pub tree: Option<TreeSize>,

    /// Tell after the answer what `--tree auto` measured, counted and chose, and why.
    #[arg(long, requires = "tree")]
    pub explain: bool,

    /// For --drafter mtp, medusa and exit: weights trained for this model; or the folder that has them as
    /// mtp.safetensors, medusa.safetensors and early_exit.safetensors [env: SUNFLECK_DRAFTER_WEIGHTS].
    #[arg(long, value_name = "FILE.safetensors")]
    pub drafter_weights: Option<PathBuf>,

    /// For --drafter mtp, medusa and exit: token ids as a JSON list, most frequent first; only the first 8192 are drafted, which
    /// makes drafting cheaper [env: SUNFLECK_DRAFT_VOCABULARY].
    #[arg(long, value_name = "FILE.json")]
    pub draft_vocabulary: Option<PathBuf>,

    /// For --drafter exit: layers that draft; the weights need an exit after as many [default: 6].
    #[arg(long, value_name = "N")]
    pub exit_layers: Option<u32>,

    /// For --drafter model: a smaller model with the same tokens, as --model.
    #[arg(long, value_name = "FILE.gguf")]
    pub draft_model: Option<PathBuf>,

    /// Restrict the answer: FILE is a JSON schema if its name ends in .json, else a regular expression that the
    /// whole answer has to match.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt_tokens")]
    pub grammar: Option<PathBuf>,

    /// End the answer before this text; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,

    /// At the context's end drop what lies between the first N tokens and the later half of the rest, and go on.
    /// Without it the answer ends there.
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "4")]
    pub context_shift: Option<u32>,

    /// Most tokens of the answer.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub max_tokens: usize,

    /// Most tokens of prompt and answer together; at most what the model was made for.
    #[arg(long, default_value_t = 2048, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub context: u32,

    /// Element type of the cache of keys and values.
    #[arg(long, value_enum, default_value = "f32", value_name = "TYPE")]
    pub kv: KvElement,

    /// Keep the cache in pages of N tokens: 16, 32, 64, 128 or 256.
    #[arg(long, value_name = "N", value_parser = page_tokens)]
    pub page: Option<u32>,

    /// Use the first adapter whose name, driver or backend contains this, whatever the case.
    #[arg(long, value_name = "SUBSTRING")]
    pub adapter: Option<String>,

    /// Print one JSON object instead of the text.
    #[arg(long)]
    pub json: bool,

    /// With --json: the log-probability of each token of the answer, before and after the sampling options; with L, also
    /// those of the L likeliest tokens in its place, at most 32.
    #[arg(long, requires = "json", value_name = "L", num_args = 0..=1, default_missing_value = "0",
          value_parser = clap::value_parser!(u32).range(0..=32))]
    pub log_probabilities: Option<u32>,

    // Last, since its heading holds for all that follows.
    #[command(flatten)]
    pub sampling: Sampling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KvElement {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    Bf16,
    /// 8-bit integers in blocks of 32 with a scale.
    Q8,
    /// 4-bit integers in blocks of 32 with a scale.
    Q4,
}

impl From<KvElement> for Element {
    fn from(element: KvElement) -> Self {
        match element {
            KvElement::F32 => Self::F32,
            KvElement::F16 => Self::F16,
            KvElement::Bf16 => Self::Bf16,
            KvElement::Q8 => Self::Q8,
            KvElement::Q4 => Self::Q4,
        }
    }
}

fn page_tokens(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(tokens @ (16 | 32 | 64 | 128 | 256)) => Ok(tokens),
        _ => Err("a page has 16, 32, 64, 128 or 256 tokens".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn options_are_taken_in_any_order() {
        let line = "sunfleck generate --json --max-tokens 5 hello --model m.gguf --drafter none \
                    --temperature 0 --adapter llvm --raw";
        let Command::Generate(generate) = parse(line).unwrap().command else {
            panic!("not the generate command");
        };
        assert_eq!(generate.prompt.as_deref(), Some("hello"));
        assert_eq!(generate.max_tokens, 5);
        assert_eq!(Ok(generate.drafter), "none".parse());
        assert_eq!(generate.adapter.as_deref(), Some("llvm"));
        assert!(generate.raw && generate.json);
    }

    #[test]
    fn cache_is_contiguous_f32_unless_told_otherwise() {
        let cache = |line: &str| {
            let Command::Generate(generate) = parse(line).unwrap().command else {
                panic!("not the generate command");
            };
            (Element::from(generate.kv), generate.page)
        };
        let line = "sunfleck generate hello --model m.gguf";
        assert_eq!(cache(line), (Element::F32, None));
        let line = format!("{line} --kv q4 --page 64");
        assert_eq!(cache(&line), (Element::Q4, Some(64)));
    }

    #[test]
    fn a_shifting_context_leaves_the_prompt_alone() {
        for (option, sinks) in [("--context-shift", 4), ("--context-shift=16", 16)] {
            let line = format!("sunfleck generate --model m.gguf {option} 365");
            let Command::Generate(generate) = parse(&line).unwrap().command else {
                panic!("not the generate command");
            };
            assert_eq!(generate.context_shift, Some(sinks));
            assert_eq!(generate.prompt.as_deref(), Some("365"));
        }
    }

    #[test]
    fn options_stand_under_their_own_heading() {
        let mut command = Arguments::command();
        let generate = command.find_subcommand_mut("generate").unwrap();
        let heading = |name: &str| {
            let mut options = generate.get_arguments();
            let option = options.find(|option| option.get_long() == Some(name));
            option.unwrap().get_help_heading().map(str::to_owned)
        };
        for (name, wanted) in [
            ("temperature", Some("Sampling")),
            ("seed", Some("Sampling")),
            ("drafter", None),
            ("context", None),
            ("json", None),
        ] {
            assert_eq!(heading(name).as_deref(), wanted, "{name}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "sunfleck generate --model m.gguf",
            "sunfleck generate hello --model m.gguf --temperature warm",
            "sunfleck generate hello --model m.gguf --drafter oracle",
            "sunfleck generate hello --model m.gguf --drafter mtp+ngram --drafter-weights w",
            "sunfleck generate hello --model m.gguf --prompt-tokens ids.json",
            "sunfleck generate hello --model m.gguf --max-tokens -1",
            "sunfleck generate hello --model m.gguf --context 0",
            "sunfleck generate hello --model m.gguf --kv q5",
            "sunfleck generate hello --model m.gguf --page 20",
            "sunfleck generate hello --model m.gguf --accept luck",
            "sunfleck generate hello --model m.gguf --log-probabilities",
            "sunfleck generate hello --model m.gguf --json --log-probabilities 33",
            "sunfleck generate hello --model m.gguf --drafts lucky",
            "sunfleck generate hello --model m.gguf --color sometimes",
            "sunfleck generate hello --model m.gguf --prompts lines.txt",
            "sunfleck generate --prompts lines.txt --model m.gguf --interactive",
            "sunfleck generate --prompts lines.txt --model m.gguf --at-once 1",
            "sunfleck generate hello --model m.gguf --tree wide",
            "sunfleck generate hello --model m.gguf --explain",
            "sunfleck generate hello --model m.gguf --grammar",
            "sunfleck generate --interactive --json --model m.gguf",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
