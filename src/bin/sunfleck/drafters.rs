//! `--drafter`: who drafts.

use std::{
    error::Error,
    ffi::OsString,
    io::{Read, Seek},
    path::{Path, PathBuf},
    str::FromStr,
};

use sunfleck::{
    draft::{
        Drafter, ExitDrafter, ExitOptions, FirstOf, MedusaDrafter, MedusaOptions, ModelDrafter,
        MtpDrafter, MtpOptions, NgramDrafter, NgramOptions, NoDrafter, check_same_vocabulary,
    },
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
};

use crate::{arguments::Generate, generate::open_model, tree_size::TreeSize};

/// Tokens of a shortened draft vocabulary.
const DRAFT_VOCABULARY: usize = 8192;
/// Nodes of a tree where none is asked for but trees may be tried.
const USUAL_NODES: usize = 16;
/// Tokens that a look-up has to find for its draft to go before another drafter's.
const LEAST_FOUND: usize = 2;

/// A drafter of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    None,
    Ngram,
    Mtp,
    Medusa,
    Exit,
    Model,
}

/// Who drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrafterName {
    /// Whether n-gram look-up is asked first.
    pub ngram_first: bool,
    pub kind: Kind,
}

impl FromStr for DrafterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (ngram_first, name) = match text.strip_prefix("ngram+") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let kind = match name {
            "none" if !ngram_first => Kind::None,
            "ngram" if !ngram_first => Kind::Ngram,
            "mtp" => Kind::Mtp,
            "medusa" => Kind::Medusa,
            "exit" => Kind::Exit,
            "model" => Kind::Model,
            _ => {
                return Err(
                    "it is none, ngram, mtp, medusa, exit or model, or one of the last four after `ngram+`".to_owned(),
                );
            }
        };
        Ok(Self { ngram_first, kind })
    }
}

/// Where trained weights are, and which tokens may be drafted.
struct Trained {
    weights: Option<PathBuf>,
    vocabulary: Option<PathBuf>,
}

impl Trained {
    /// As the command line has them, else the environment, whose empty variables do not count.
    fn new(arguments: &Generate, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| {
            let value = variable(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let (weights, vocabulary) = (&arguments.drafter_weights, &arguments.draft_vocabulary);
        Self {
            weights: (weights.clone()).or_else(|| set("SUNFLECK_DRAFTER_WEIGHTS")),
            vocabulary: (vocabulary.clone()).or_else(|| set("SUNFLECK_DRAFT_VOCABULARY")),
        }
    }
}

const NEEDS_WEIGHTS: &str = "--drafter mtp, medusa and exit need --drafter-weights FILE.safetensors, or that file in \
                             SUNFLECK_DRAFTER_WEIGHTS";
const NEEDS_MODEL: &str = "--drafter model needs --draft-model FILE.gguf";
const ON_HOST: &str = "with --prompts drafts come from --drafter ngram or none";

/// Refuses a drafter that lacks what it needs, and options that would do nothing with it.
///
/// # Errors
/// A sentence that says what to do.
pub fn check(arguments: &Generate) -> Result<(), String> {
    check_with(arguments, |name| std::env::var_os(name))
}

fn check_with(
    arguments: &Generate,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), String> {
    let kind = arguments.drafter.kind;
    let is_trained = matches!(kind, Kind::Mtp | Kind::Medusa | Kind::Exit);
    let of_trained = "--drafter mtp, medusa and exit";
    let refuse = |given: bool, fits: bool, option: &str, of: &str| match given && !fits {
        true => Err(format!(
            "{option} is for {of}, and would do nothing here; add that, or leave {option} out"
        )),
        false => Ok(()),
    };
    let (model, layers) = (&arguments.draft_model, &arguments.exit_layers);
    let (weights, ids) = (&arguments.drafter_weights, &arguments.draft_vocabulary);
    let (is_model, is_exit) = (kind == Kind::Model, kind == Kind::Exit);
    let (at_once, several) = (&arguments.at_once, arguments.prompts.is_some());
    refuse(
        model.is_some(),
        is_model,
        "--draft-model",
        "--drafter model",
    )?;
    refuse(layers.is_some(), is_exit, "--exit-layers", "--drafter exit")?;
    refuse(
        weights.is_some(),
        is_trained,
        "--drafter-weights",
        of_trained,
    )?;
    refuse(ids.is_some(), is_trained, "--draft-vocabulary", of_trained)?;
    refuse(at_once.is_some(), several, "--at-once", "--prompts")?;
    let is_on_host = matches!(kind, Kind::None | Kind::Ngram);
    if several && !is_on_host {
        return Err(ON_HOST.to_owned());
    }
    if is_trained && Trained::new(arguments, variable).weights.is_none() {
        return Err(NEEDS_WEIGHTS.to_owned());
    }
    match kind == Kind::Model && arguments.draft_model.is_none() {
        true => Err(NEEDS_MODEL.to_owned()),
        false => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Loads the drafter that the arguments name, for `decoder`, which was loaded from `gguf` and `reader`.
pub async fn load<R: Read + Seek>(
    arguments: &Generate,
    gpu: &Gpu,
    decoder: &Decoder,
    gguf: &Gguf,
    reader: &mut R,
) -> Result<Box<dyn Drafter>, Box<dyn Error>> {
    let DrafterName { ngram_first, kind } = arguments.drafter;
    let drafter: Box<dyn Drafter> = match kind {
        Kind::None => Box::new(NoDrafter),
        Kind::Ngram => Box::new(NgramDrafter::new(ngram(arguments.tree))?),
        Kind::Model => Box::new(model(arguments, gpu, decoder, gguf).await?),
        Kind::Mtp | Kind::Medusa | Kind::Exit => {
            trained(kind, arguments, gpu, decoder, gguf, reader).await?
        }
    };
    if !ngram_first {
        return Ok(drafter);
    }
    let look_up = NgramDrafter::new(ngram(arguments.tree))?;
    Ok(Box::new(FirstOf::new(
        Box::new(look_up),
        drafter,
        LEAST_FOUND,
    )))
}

/// A drafter of its own for each of several answers.
pub fn on_host(arguments: &Generate) -> Result<Box<dyn Drafter>, String> {
    match arguments.drafter {
        DrafterName {
            kind: Kind::None, ..
        } => Ok(Box::new(NoDrafter)),
        DrafterName {
            kind: Kind::Ngram, ..
        } => match NgramDrafter::new(NgramOptions::default()) {
            Ok(drafter) => Ok(Box::new(drafter)),
            Err(error) => Err(error.to_string()),
        },
        _ => Err(ON_HOST.to_owned()),
    }
}

/// How n-gram look-up searches, for chains or for trees.
fn ngram(tree: Option<TreeSize>) -> NgramOptions {
    let usual = NgramOptions::default();
    match tree {
        None => usual,
        Some(size) => NgramOptions {
            matches: if size.has_branches() {
                4
            } else {
                usual.matches
            },
            max_tokens: match size {
                TreeSize::Chain(tokens) => tokens,
                _ => usual.max_tokens,
            },
            ..usual
        },
    }
}

/// A drafter with trained weights.
async fn trained<R: Read + Seek>(
    kind: Kind,
    arguments: &Generate,
    gpu: &Gpu,
    decoder: &Decoder,
    gguf: &Gguf,
    reader: &mut R,
) -> Result<Box<dyn Drafter>, Box<dyn Error>> {
    let trained = Trained::new(arguments, |name| std::env::var_os(name));
    let path = trained.weights.ok_or(NEEDS_WEIGHTS)?;
    // Of a folder, the file of this kind.
    let path = match path.is_dir() {
        true => path.join(match kind {
            Kind::Medusa => "medusa.safetensors",
            Kind::Exit => "early_exit.safetensors",
            _ => "mtp.safetensors",
        }),
        false => path,
    };
    let weights = read(&path)?;
    let in_file = |error: &dyn Error| format!("{}: {error}", path.display());
    let vocabulary = match &trained.vocabulary {
        Some(path) => {
            let mut ids: Vec<u32> = serde_json::from_slice(&read(path)?)
                .map_err(|error| format!("{}: no list of token ids: {error}", path.display()))?;
            ids.truncate(DRAFT_VOCABULARY);
            ids
        }
        None => Vec::new(),
    };
    let tokens = |usual: usize| match arguments.tree {
        Some(TreeSize::Chain(tokens)) => tokens,
        Some(TreeSize::Auto) => 2 * usual,
        _ => usual,
    };
    let nodes = match arguments.tree {
        Some(TreeSize::Nodes(nodes)) => nodes,
        Some(TreeSize::Chain(_)) => 1,
        Some(TreeSize::Auto) | None => USUAL_NODES,
    };
    Ok(match kind {
        Kind::Medusa => {
            let options = MedusaOptions {
                // Chains have a node a head.
                nodes: nodes.max(USUAL_NODES),
                vocabulary,
                ..Default::default()
            };
            let loaded = MedusaDrafter::load(gpu, decoder, gguf, reader, &weights, &options);
            Box::new(loaded.await.map_err(|error| in_file(&error))?)
        }
        Kind::Exit => {
            let usual = ExitOptions::default();
            let options = ExitOptions {
                layers: arguments.exit_layers.unwrap_or(usual.layers),
                tokens: tokens(usual.tokens),
                vocabulary,
            };
            let loaded = ExitDrafter::load(gpu, decoder, gguf, reader, &weights, &options);
            Box::new(loaded.await.map_err(|error| in_file(&error))?)
        }
        _ => {
            let usual = MtpOptions::default();
            let options = MtpOptions {
                tokens: tokens(usual.tokens),
                // A chain unless trees are asked for.
                nodes: arguments.tree.map_or(1, |_| nodes),
                vocabulary,
                ..usual
            };
            let loaded = MtpDrafter::load(gpu, decoder, gguf, reader, &weights, &options);
            Box::new(loaded.await.map_err(|error| in_file(&error))?)
        }
    })
}

/// The draft model that the arguments name.
async fn model(
    arguments: &Generate,
    gpu: &Gpu,
    decoder: &Decoder,
    gguf: &Gguf,
) -> Result<ModelDrafter, Box<dyn Error>> {
    let path = arguments.draft_model.as_deref();
    let path = path.ok_or(NEEDS_MODEL)?;
    let in_file = |error: &dyn Error| format!("{}: {error}", path.display());
    let (draft_gguf, mut reader) = open_model(path)?;
    check_same_vocabulary(gguf, &draft_gguf).map_err(|error| in_file(&error))?;
    let options = DecoderOptions {
        context: arguments.context,
        max_draft: 0,
        ..Default::default()
    };
    let mut quiet = |_, _| ();
    let draft = Decoder::load(gpu, &draft_gguf, &mut reader, options, &mut quiet).await;
    let draft = draft.map_err(|error| in_file(&error))?;
    let tokens = match arguments.tree {
        Some(TreeSize::Chain(tokens)) => tokens,
        _ => 4,
    };
    ModelDrafter::new(gpu, decoder, draft, tokens).map_err(|error| in_file(&error).into())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::arguments::{Arguments, Command};

    /// Whether a command line is taken, where the environment names weights as `variable` says.
    fn check(line: &str, variable: Option<&str>) -> Result<(), String> {
        let line = format!("sunfleck generate --model m.gguf {line}");
        let arguments = Arguments::try_parse_from(line.split_whitespace());
        let Command::Generate(generate) = arguments.map_err(|error| error.to_string())?.command
        else {
            return Err("not the generate command".to_owned());
        };
        check_with(&generate, |name| {
            (name == "SUNFLECK_DRAFTER_WEIGHTS").then(|| variable.map(OsString::from))?
        })
    }

    #[test]
    fn drafters_have_what_they_need_and_no_option_does_nothing() {
        for line in [
            "hello",
            "hello --drafter mtp --drafter-weights w --draft-vocabulary ids.json",
            "hello --drafter ngram+exit --drafter-weights w --exit-layers 12",
            "hello --drafter ngram+model --draft-model small.gguf",
            "--prompts lines.txt --drafter none --at-once 2",
        ] {
            assert_eq!(check(line, None), Ok(()), "{line}");
        }
        for (line, advice) in [
            ("hello --drafter mtp", "--drafter-weights"),
            ("hello --drafter ngram+medusa", "--drafter-weights"),
            ("hello --drafter model", "--draft-model"),
            ("hello --draft-model small.gguf", "--drafter model"),
            ("hello --at-once 4", "--prompts"),
            (
                "hello --drafter mtp --drafter-weights w --exit-layers 6",
                "--drafter exit",
            ),
            ("hello --drafter-weights w", "--drafter mtp"),
            (
                "hello --drafter none --draft-vocabulary ids.json",
                "--drafter mtp",
            ),
            (
                "--prompts lines.txt --drafter mtp --drafter-weights w",
                "--prompts",
            ),
            (
                "--prompts lines.txt --drafter ngram+model --draft-model m",
                "--prompts",
            ),
        ] {
            let error = check(line, None).unwrap_err();
            assert!(error.contains(advice), "{line}: {error}");
        }
    }

    #[test]
    fn weights_of_the_environment_count_unless_they_are_empty() {
        assert_eq!(check("hello --drafter mtp", Some("w")), Ok(()));
        assert!(check("hello --drafter mtp", Some("")).is_err());
        // They may be there for others.
        assert_eq!(check("hello", Some("w")), Ok(()));
        assert_eq!(check("hello", Some("")), Ok(()));
    }

    #[test]
    fn drafters_are_named_alone_or_after_a_look_up() {
        let named = |ngram_first, kind| Ok(DrafterName { ngram_first, kind });
        assert_eq!("none".parse(), named(false, Kind::None));
        assert_eq!("medusa".parse(), named(false, Kind::Medusa));
        assert_eq!("ngram+mtp".parse(), named(true, Kind::Mtp));
        assert_eq!("ngram+model".parse(), named(true, Kind::Model));
        for wrong in [
            "",
            "ngram+",
            "ngram+none",
            "ngram+ngram",
            "mtp+ngram",
            "MTP",
        ] {
            assert!(wrong.parse::<DrafterName>().is_err(), "{wrong:?}");
        }
    }
}
