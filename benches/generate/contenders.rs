//! Drafters and trees that are compared.

use std::{fs::File, io::BufReader, path::Path};

use sunfleck::{
    draft::{
        Bounded, Drafter, ExitDrafter, ExitOptions, FirstOf, MedusaDrafter, MedusaOptions,
        ModelDrafter, MtpDrafter, MtpOptions, NgramDrafter, NgramOptions, check_same_vocabulary,
    },
    gpu::Gpu,
    model::{Decoder, DecoderOptions, Gguf},
};

use crate::{arguments::Arguments, device::Weights};

// Compiled in: the benchmark also runs where there is no clone.
const MTP: &[u8] = include_bytes!("../../models/smollm2-135m-instruct/mtp.safetensors");
const MEDUSA: &[u8] = include_bytes!("../../models/smollm2-135m-instruct/medusa.safetensors");
const EXIT: &[u8] = include_bytes!("../../models/smollm2-135m-instruct/early_exit.safetensors");
const RANKS: &str = include_str!("../../models/smollm2-135m-instruct/token_rank.json");

/// A drafter with a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// The drafter.
    pub drafter: Kind,
    /// The tree.
    pub tree: Tree,
}

/// Who drafts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Look-up in prompt and answer.
    Ngram,
    /// An MTP module.
    Mtp,
    /// Medusa heads.
    Medusa,
    /// The model's first layers, so many of them.
    Exit(u32),
    /// A smaller model.
    Model,
    /// Look-up, and an MTP module where that has nothing.
    NgramMtp,
}

/// How much is drafted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tree {
    /// A chain of so many tokens.
    Chain(usize),
    /// A tree of so many nodes.
    Nodes(usize),
    /// What pays.
    Auto,
}

impl Tree {
    /// As `--tree` has it.
    pub fn name(self) -> String {
        match self {
            Self::Chain(tokens) => format!("chain:{tokens}"),
            Self::Nodes(nodes) => nodes.to_string(),
            Self::Auto => "auto".to_owned(),
        }
    }
}

impl Kind {
    /// As `--drafter` has it; of early exit with its layers.
    pub fn name(self) -> String {
        match self {
            Self::Ngram => "ngram".to_owned(),
            Self::Mtp => "mtp".to_owned(),
            Self::Medusa => "medusa".to_owned(),
            Self::Exit(layers) => format!("exit {layers}"),
            Self::Model => "model".to_owned(),
            Self::NgramMtp => "ngram+mtp".to_owned(),
        }
    }
}

/// All contenders.
pub fn all() -> Vec<Contender> {
    let of = |drafter, trees: &[Tree]| {
        let contenders = trees.iter().map(|&tree| Contender { drafter, tree });
        contenders.collect::<Vec<_>>()
    };
    [
        of(
            Kind::Ngram,
            &[Tree::Chain(4), Tree::Chain(8), Tree::Nodes(16), Tree::Auto],
        ),
        of(
            Kind::Mtp,
            &[
                Tree::Chain(2),
                Tree::Chain(4),
                Tree::Nodes(16),
                Tree::Nodes(32),
                Tree::Auto,
            ],
        ),
        of(
            Kind::Medusa,
            &[Tree::Nodes(16), Tree::Nodes(32), Tree::Auto],
        ),
        of(Kind::Exit(6), &[Tree::Chain(2), Tree::Chain(4)]),
        of(Kind::Exit(12), &[Tree::Chain(4)]),
        of(Kind::Model, &[Tree::Chain(2), Tree::Chain(4), Tree::Auto]),
        of(Kind::NgramMtp, &[Tree::Chain(4), Tree::Auto]),
    ]
    .concat()
}

/// Chains of the drafters that have statistics of their own.
pub fn chains() -> Vec<Contender> {
    [Kind::Mtp, Kind::Medusa, Kind::Exit(6), Kind::Exit(12)]
        .map(|drafter| Contender {
            drafter,
            tree: Tree::Chain(4),
        })
        .to_vec()
}

/// What drafters are loaded from.
pub struct Loading<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    /// The model.
    pub decoder: &'a Decoder,
    /// Its file's table.
    pub gguf: &'a Gguf,
    /// Its file.
    pub reader: &'a mut dyn Weights,
    /// Draft vocabulary and draft model.
    pub arguments: &'a Arguments,
}

impl Contender {
    /// Its name in tables and filters.
    pub fn name(&self) -> String {
        format!("{} {}", self.drafter.name(), self.tree.name())
    }

    /// Why it can't take part, if it can't: trained weights are for one model.
    pub fn is_missing(&self, has_weights: bool, arguments: &Arguments) -> Option<&'static str> {
        match self.drafter {
            Kind::Ngram => None,
            Kind::Model => {
                (arguments.draft_model.is_none()).then_some("no draft model (--draft-model)")
            }
            _ => (!has_weights).then_some("no weights for this model"),
        }
    }

    /// The drafter, held to its tree; `auto` is left free.
    pub async fn drafter(&self, loading: &mut Loading<'_>) -> Result<Box<dyn Drafter>, String> {
        let (levels, nodes) = match self.tree {
            Tree::Chain(tokens) => (tokens, 1),
            Tree::Nodes(nodes) => (6, nodes),
            // What may pay.
            Tree::Auto => (8, 16),
        };
        let drafter: Box<dyn Drafter> = match self.drafter {
            Kind::Ngram => Box::new(ngram(levels, nodes)?),
            Kind::Mtp => Box::new(mtp(levels, nodes, loading).await?),
            Kind::Medusa => Box::new(medusa(nodes, loading).await?),
            Kind::Exit(layers) => Box::new(exit(layers, levels, loading).await?),
            Kind::Model => Box::new(model(levels, loading).await?),
            Kind::NgramMtp => {
                let second = Box::new(mtp(levels, nodes, loading).await?);
                Box::new(FirstOf::new(Box::new(ngram(levels, nodes)?), second, 2))
            }
        };
        Ok(match self.tree {
            Tree::Chain(tokens) => Box::new(Bounded::chain(drafter, tokens)),
            Tree::Nodes(nodes) => Box::new(Bounded::tree(drafter, nodes)),
            Tree::Auto => drafter,
        })
    }
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn ngram(levels: usize, nodes: usize) -> Result<NgramDrafter, String> {
    let options = NgramOptions {
        matches: if nodes > 1 { 4 } else { 1 },
        max_tokens: if nodes > 1 { 8 } else { levels },
        ..NgramOptions::default()
    };
    NgramDrafter::new(options).map_err(said)
}

async fn mtp(tokens: usize, nodes: usize, loading: &mut Loading<'_>) -> Result<MtpDrafter, String> {
    let options = MtpOptions {
        tokens,
        nodes,
        vocabulary: vocabulary(loading.arguments)?,
        ..MtpOptions::default()
    };
    let (gpu, decoder, gguf) = (loading.gpu, loading.decoder, loading.gguf);
    let loaded = MtpDrafter::load(gpu, decoder, gguf, &mut loading.reader, MTP, &options);
    loaded.await.map_err(said)
}

async fn medusa(nodes: usize, loading: &mut Loading<'_>) -> Result<MedusaDrafter, String> {
    let options = MedusaOptions {
        // A chain has a node a head.
        nodes: nodes.max(8),
        vocabulary: vocabulary(loading.arguments)?,
        ..MedusaOptions::default()
    };
    let (gpu, decoder, gguf) = (loading.gpu, loading.decoder, loading.gguf);
    let loaded = MedusaDrafter::load(gpu, decoder, gguf, &mut loading.reader, MEDUSA, &options);
    loaded.await.map_err(said)
}

async fn exit(
    layers: u32,
    tokens: usize,
    loading: &mut Loading<'_>,
) -> Result<ExitDrafter, String> {
    let options = ExitOptions {
        layers,
        tokens,
        vocabulary: vocabulary(loading.arguments)?,
    };
    let (gpu, decoder, gguf) = (loading.gpu, loading.decoder, loading.gguf);
    let loaded = ExitDrafter::load(gpu, decoder, gguf, &mut loading.reader, EXIT, &options);
    loaded.await.map_err(said)
}

async fn model(tokens: usize, loading: &Loading<'_>) -> Result<ModelDrafter, String> {
    let path = loading.arguments.draft_model.as_deref();
    let path = path.ok_or("--draft-model names no file")?;
    let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open::<&Path>(path).map_err(|error| in_file(&error))?;
    let mut reader = BufReader::new(file);
    let gguf = Gguf::read(&mut reader).map_err(|error| in_file(&error))?;
    check_same_vocabulary(loading.gguf, &gguf).map_err(|error| in_file(&error))?;
    let options = DecoderOptions {
        context: loading.decoder.options().context,
        max_draft: 0,
        ..Default::default()
    };
    let decoder = Decoder::load(loading.gpu, &gguf, &mut reader, options, &mut |_, _| ()).await;
    let decoder = decoder.map_err(|error| in_file(&error))?;
    ModelDrafter::new(loading.gpu, loading.decoder, decoder, tokens)
        .map_err(|error| in_file(&error))
}

/// The draft vocabulary: empty for all tokens.
fn vocabulary(arguments: &Arguments) -> Result<Vec<u32>, String> {
    let Some(size) = arguments.vocabulary else {
        return Ok(Vec::new());
    };
    let list = serde_json::from_str(RANKS);
    let mut vocabulary: Vec<u32> = list.map_err(|error| format!("token_rank.json: {error}"))?;
    vocabulary.truncate(size);
    Ok(vocabulary)
}
