//! Drafters and trees that are compared.

use std::{fs, path::PathBuf};

use sunfleck::{
    draft::{
        Bounded, Drafter, FirstOf, MedusaDrafter, MedusaOptions, MtpDrafter, MtpOptions,
        NgramDrafter, NgramOptions,
    },
    gpu::Gpu,
    model::{Decoder, Gguf},
};

use crate::device::Weights;

/// Tokens of the shortened draft vocabulary.
const DRAFT_VOCABULARY: usize = 8192;

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
    /// As `--drafter` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ngram => "ngram",
            Self::Mtp => "mtp",
            Self::Medusa => "medusa",
            Self::NgramMtp => "ngram+mtp",
        }
    }

    fn needs_weights(self) -> bool {
        self != Self::Ngram
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
            &[Tree::Chain(2), Tree::Chain(4), Tree::Nodes(16), Tree::Auto],
        ),
        of(Kind::Medusa, &[Tree::Nodes(16), Tree::Nodes(32)]),
        of(Kind::NgramMtp, &[Tree::Chain(4), Tree::Auto]),
    ]
    .concat()
}

impl Contender {
    /// Its name in tables and filters.
    pub fn name(&self) -> String {
        format!("{} {}", self.drafter.name(), self.tree.name())
    }

    /// Whether it can draft for the model in `folder`, the place of trained weights.
    pub fn has_weights(&self, folder: Option<&PathBuf>) -> bool {
        !self.drafter.needs_weights() || folder.is_some()
    }

    /// The drafter, held to its tree; `auto` is left free.
    pub async fn drafter(
        &self,
        gpu: &Gpu,
        decoder: &Decoder,
        gguf: &Gguf,
        reader: &mut dyn Weights,
        folder: Option<&PathBuf>,
    ) -> Result<Box<dyn Drafter>, String> {
        let (levels, branches) = match self.tree {
            Tree::Chain(tokens) => (tokens, false),
            Tree::Nodes(_) => (5, true),
            Tree::Auto => (8, true),
        };
        let ngram = || {
            let options = NgramOptions {
                matches: if branches { 4 } else { 1 },
                max_tokens: levels.max(8),
                ..NgramOptions::default()
            };
            NgramDrafter::new(options).map_err(|error| error.to_string())
        };
        let drafter: Box<dyn Drafter> = match self.drafter {
            Kind::Ngram => Box::new(ngram()?),
            Kind::Mtp => {
                let tree = match self.tree {
                    Tree::Nodes(nodes) => nodes,
                    _ => 1,
                };
                Box::new(mtp(levels, tree, gpu, decoder, gguf, reader, folder).await?)
            }
            Kind::Medusa => Box::new(medusa(gpu, decoder, gguf, reader, folder).await?),
            Kind::NgramMtp => {
                let second = mtp(levels, 1, gpu, decoder, gguf, reader, folder).await?;
                Box::new(FirstOf::new(Box::new(ngram()?), Box::new(second), 1))
            }
        };
        Ok(match self.tree {
            Tree::Chain(tokens) => Box::new(Bounded::chain(drafter, tokens)),
            Tree::Nodes(nodes) => Box::new(Bounded::tree(drafter, nodes)),
            Tree::Auto => drafter,
        })
    }
}

async fn mtp(
    tokens: usize,
    nodes: usize,
    gpu: &Gpu,
    decoder: &Decoder,
    gguf: &Gguf,
    mut reader: &mut dyn Weights,
    folder: Option<&PathBuf>,
) -> Result<MtpDrafter, String> {
    let (weights, vocabulary) = trained("mtp.safetensors", folder)?;
    let options = MtpOptions {
        tokens,
        nodes,
        vocabulary,
        ..MtpOptions::default()
    };
    MtpDrafter::load(gpu, decoder, gguf, &mut reader, &weights, &options)
        .await
        .map_err(|error| error.to_string())
}

async fn medusa(
    gpu: &Gpu,
    decoder: &Decoder,
    gguf: &Gguf,
    mut reader: &mut dyn Weights,
    folder: Option<&PathBuf>,
) -> Result<MedusaDrafter, String> {
    let (weights, vocabulary) = trained("medusa.safetensors", folder)?;
    let options = MedusaOptions {
        vocabulary,
        ..MedusaOptions::default()
    };
    MedusaDrafter::load(gpu, decoder, gguf, &mut reader, &weights, &options)
        .await
        .map_err(|error| error.to_string())
}

/// The bytes of trained weights, and the shortened draft vocabulary.
fn trained(name: &str, folder: Option<&PathBuf>) -> Result<(Vec<u8>, Vec<u32>), String> {
    let folder = folder.ok_or("no trained weights for this model")?;
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let list = serde_json::from_slice(&read("token_rank.json")?);
    let mut vocabulary: Vec<u32> = list.map_err(|error| format!("token_rank.json: {error}"))?;
    vocabulary.truncate(DRAFT_VOCABULARY);
    Ok((read(name)?, vocabulary))
}
