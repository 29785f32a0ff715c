//! Who proposes the next tokens.
//!
//! A [`Drafter`] looks at the committed tokens and proposes a [`DraftTree`]; the target model then
//! checks all its nodes in one pass. A drafter can be wrong at no cost but time: verification keeps
//! exactly the tokens that the target model would have given.
//!
//! | drafter | proposes | needs |
//! |---|---|---|
//! | [`NoDrafter`] | nothing: plain decoding | nothing |
//! | [`NgramDrafter`] | what followed the last tokens when they occurred before | nothing |
//! | [`MtpDrafter`] | a chain or a tree from a trained layer that reads the target's features | trained weights |
//! | [`MedusaDrafter`] | a tree from trained heads on the target's feature | trained weights |
//! | [`ExitDrafter`] | a chain from the target's own first layers | trained weights |
//! | [`ModelDrafter`] | a chain of a smaller model | a model of the same vocabulary |
//! | [`Bounded`] | what another drafter proposes, held to a chain of some tokens or a tree of some nodes | a drafter |
//! | [`Auto`] | what another drafter proposes, held to what pays, which may be nothing | a drafter, [`StepCosts`] |
//! | [`FirstOf`] | what one drafter proposes, and where it has nothing, another | two drafters |
//!
//! ```
//! use sunfleck::draft::{DraftContext, Drafted, Drafter, NgramDrafter, NgramOptions};
//!
//! let mut drafter = NgramDrafter::new(NgramOptions::default())?;
//! // "7 8" occurred before, and 9 followed.
//! let context = DraftContext::new(&[7, 8, 9, 1, 7, 8], 16, 2);
//! let Drafted::OnHost(tree) = drafter.draft(&context)? else { unreachable!() };
//! assert_eq!(tree.tokens(), [8, 9, 1]);
//! # Ok::<(), sunfleck::draft::DraftError>(())
//! ```
//!
//! # Drafters on the GPU
//! An MTP module drafts on the GPU, where the features of the last step lie; a read-back inside a draft would
//! cost more than the draft gains. Such a drafter answers [`Drafted::OnGpu`] with the shape of its tree,
//! and [`Drafter::record`] records its dispatches into the step's encoder, in front of the target's pass:
//! they write the drafted tokens into the decoder's tree blob, where the target, the verification and the
//! commit read them. A step stays one submission and one read-back.

mod auto;
mod bounded;
mod costs;
mod drawing;
mod exit;
mod first_of;
mod kernels;
mod medusa;
mod model;
mod mtp;
mod ngram;
mod none;
mod residual;
mod vocabulary;
mod weights;

pub use auto::Auto;
pub use bounded::Bounded;
pub use costs::StepCosts;
pub use drawing::{Drawing, MAX_DRAWN};
pub use exit::{ExitDrafter, ExitOptions};
pub use first_of::FirstOf;
pub(crate) use kernels::variants;
pub use medusa::{MedusaDrafter, MedusaOptions};
pub use model::{ModelDrafter, check_same_vocabulary};
pub use mtp::{MtpDrafter, MtpOptions};
pub use ngram::{MAX_MATCHES, MAX_NGRAM, NgramDrafter, NgramOptions};
pub use none::NoDrafter;
pub use weights::DrafterLoadError;

use web_time::Duration;
use wgpu::CommandEncoder;

use crate::{
    gpu::Gpu,
    model::Decoder,
    tree::{DraftTree, DrawKind, MAX_NODES, NONE, TreeBuildError, TreeError},
};

/// What a drafter may look at, and how much it may propose.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct DraftContext<'a> {
    /// All committed tokens, prompt and output; the last one is the root of the draft.
    pub committed: &'a [u32],
    /// The most nodes of the tree, the root included.
    pub max_nodes: usize,
    /// The most drafted tokens on one path: what the cache and the wanted output still have room for.
    pub max_depth: usize,
    /// Whether the draft may branch; where not, it has to be a chain.
    pub branches: bool,
    /// Tokens that a chain can have at most if they are drawn by chance, through [`Recording::drawing`]; 0 where they
    /// are not to be. A drafter that can answers with a chain on the GPU whose draw is [`DrawKind::Iid`].
    pub draws: usize,
    /// The rows of the target's last pass whose features can be read; see [`Features`].
    pub features: Features<'a>,
}

impl<'a> DraftContext<'a> {
    /// A context in which the target has left no features, and the draft may branch.
    pub fn new(committed: &'a [u32], max_nodes: usize, max_depth: usize) -> Self {
        DraftContext {
            committed,
            max_nodes,
            max_depth,
            branches: true,
            draws: 0,
            features: Features::default(),
        }
    }

    /// The last committed token, which is the root of every draft.
    ///
    /// # Errors
    /// [`DraftError::NoToken`] when nothing is committed, [`DraftError::NoRoom`] when not even the root
    /// fits.
    pub fn root(&self) -> Result<u32, DraftError> {
        if self.max_nodes == 0 {
            return Err(DraftError::NoRoom);
        }
        self.committed.last().copied().ok_or(DraftError::NoToken)
    }
}

/// Where a draft is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Drafted {
    /// In host memory, to be uploaded with the step.
    OnHost(DraftTree),
    /// On the GPU: a tree of this shape, whose drafted tokens (here only placeholders)
    /// [`Drafter::record`] writes into the decoder's tree blob.
    OnGpu(DraftTree),
    /// On the GPU, with a shape that is decided there: [`Drafter::record`] writes the whole blob, and the number of
    /// nodes into the decoder's step.
    Grown(Growth),
}

impl Drafted {
    /// The tree; one that is on the GPU has placeholders for drafted tokens, and one that grows there for
    /// its shape too.
    pub fn tree(&self) -> &DraftTree {
        match self {
            Drafted::OnHost(tree) | Drafted::OnGpu(tree) => tree,
            Drafted::Grown(growth) => &growth.placeholder,
        }
    }

    /// Drafted tokens that one path can have at most.
    pub fn depth(&self) -> usize {
        match self {
            Drafted::OnHost(tree) | Drafted::OnGpu(tree) => tree.max_depth() as usize,
            Drafted::Grown(growth) => growth.depth,
        }
    }
}

/// How large a draft that grows on the GPU can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    placeholder: DraftTree, // of as many nodes, each a child of the root
    depth: usize,
}

impl Growth {
    /// At most `nodes` nodes, the root included, and at most `depth` drafted tokens on a path.
    ///
    /// # Errors
    /// [`TreeError`] for no node, or too many.
    pub fn new(root: u32, nodes: usize, depth: usize) -> Result<Self, TreeError> {
        // Distinct tokens, since siblings that are chosen without chance differ.
        let tokens = (0..nodes as u32).map(|node| if node == 0 { root } else { node - 1 });
        let parents = (0..nodes).map(|node| if node == 0 { NONE } else { 0 });
        Ok(Self {
            placeholder: DraftTree::from_parents(
                tokens.collect(),
                parents.collect(),
                DrawKind::TopK,
            )?,
            depth,
        })
    }
}

/// What a drafter can draft, and what it costs: what a choice of trees goes by.
///
/// A drafter answers every [`DraftContext`] all the same, with as much of it as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DraftLimits {
    /// Most nodes of a tree, the root included.
    pub nodes: usize,
    /// Most drafted tokens on one path.
    pub depth: usize,
    /// Whether its drafts can branch.
    pub branches: bool,
    /// What takes time.
    pub cost: DraftCost,
}

impl DraftLimits {
    /// The limits of a drafter that has none, and whose drafts cost nothing.
    pub const FREE: Self = Self {
        nodes: MAX_NODES,
        depth: MAX_NODES - 1,
        branches: true,
        cost: DraftCost::Free,
    };

    /// Limits of their own.
    pub const fn new(nodes: usize, depth: usize, branches: bool, cost: DraftCost) -> Self {
        Self {
            nodes,
            depth,
            branches,
            cost,
        }
    }

    /// What either of two drafters can, at the cost of the dearer one.
    pub fn either(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.max(other.nodes),
            depth: self.depth.max(other.depth),
            branches: self.branches || other.branches,
            cost: self.cost.max(other.cost),
        }
    }
}

/// What the time of a draft goes with, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DraftCost {
    /// Nothing that counts beside a pass of the target: a look-up on the host.
    Free,
    /// One pass, whatever the tree: heads on the target's features.
    Once,
    /// One pass for each level of the tree: a module or a model that reads its own tokens.
    PerLevel,
}

/// The rows that the target's last pass computed and that were kept: their features lie in
/// [`Decoder::features`](crate::model::Decoder::features).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features<'a> {
    /// Row of each kept token, in the order of the sequence; empty when there was no pass or the
    /// sequence was cut since.
    pub rows: &'a [u32],
    /// Position of the first of them in the sequence.
    pub position: u32,
}

impl<'a> Features<'a> {
    /// Those of `rows`, whose tokens are the last of the `past` in the cache.
    pub(crate) fn before(past: u32, rows: &'a [u32]) -> Self {
        Features {
            rows,
            position: past.saturating_sub(rows.len() as u32),
        }
    }
}

/// What a drafter records one submission with.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recording<'a> {
    /// The device.
    pub gpu: &'a Gpu,
    /// The step's encoder; the target's pass follows.
    pub encoder: &'a mut CommandEncoder,
    /// The tokens of the sequence that are known, also those of a prompt that are not computed yet; where a draft is
    /// verified, all but the last are in the target's cache.
    pub tokens: &'a [u32],
    /// The features of the last pass.
    pub features: Features<'a>,
    /// The target.
    pub decoder: &'a Decoder,
    /// Layers of the target that the drafter ran for all rows of this step, features and keys included: a drafter
    /// that drafts with the target's own first layers says so here, and the step goes on from there.
    pub layers_done: u32,
    /// Where the tokens of the chain are drawn that this drafter just answered with, if it is one of chance.
    pub drawing: Option<&'a Drawing>,
    /// Whether this step verifies the draft of [`Drafted::OnGpu`] that this drafter just answered with.
    pub drafting: bool,
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome<'a> {
    /// Nodes of the draft, the root not counted.
    pub drafted: usize,
    /// Drafted tokens that one path could have kept at most.
    pub depth: usize,
    /// The drafted tokens that were kept, in order; the bonus token is not one of them.
    pub accepted: &'a [u32],
    /// The draft; of one on the GPU, its shape.
    pub tree: &'a DraftTree,
    /// Its nodes that were kept, the root first.
    pub path: &'a [u32],
    /// How long the step took, drafting included, where that is known.
    pub time: Option<Duration>,
}

impl<'a> Outcome<'a> {
    /// The outcome of verifying `tree`, which kept the drafted tokens `accepted`.
    pub fn new(tree: &'a DraftTree, accepted: &'a [u32]) -> Self {
        Outcome {
            drafted: tree.drafted(),
            depth: tree.max_depth() as usize,
            accepted,
            tree,
            path: &[],
            time: None,
        }
    }

    /// With the nodes of these tokens, the root first.
    pub fn with_path(self, path: &'a [u32]) -> Self {
        Outcome { path, ..self }
    }

    /// With the time that the step took.
    pub fn with_time(self, time: Duration) -> Self {
        Outcome {
            time: Some(time),
            ..self
        }
    }
}

/// Proposes continuations of the committed tokens.
///
/// A drafter is deterministic: the same calls give the same drafts. It may keep what it learnt from
/// the tokens between calls, but has to notice when `committed` no longer continues what it saw.
pub trait Drafter {
    /// The name for tables and logs, such as `ngram`.
    fn name(&self) -> &str;

    /// What it can draft and what that costs; without limits and free unless it says otherwise.
    fn limits(&self) -> DraftLimits {
        DraftLimits::FREE
    }

    /// Proposes a tree whose root is the last committed token; the root alone when there is nothing to
    /// propose.
    ///
    /// # Errors
    /// [`DraftError`] when the context allows no tree, or the drafter failed.
    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError>;

    /// Records this drafter's GPU work of one submission. Called for every one, those of a prompt included,
    /// after the shape of the tree is on its way to the GPU and before the target overwrites the features
    /// of its last pass.
    ///
    /// # Errors
    /// [`DraftError`] when it can't draft what it answered.
    fn record(&mut self, _recording: &mut Recording<'_>) -> Result<(), DraftError> {
        Ok(())
    }

    /// Learns what became of the last draft. Called once a step, after verification.
    fn observe(&mut self, _outcome: &Outcome<'_>) {}

    /// What was decided how, for a reader; `None` where nothing was.
    fn explain(&self) -> Option<String> {
        None
    }

    /// Forgets everything, as before another sequence.
    fn reset(&mut self) {}
}

/// Why there is no draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DraftError {
    /// Nothing is committed, so the draft has no root.
    #[error("a draft needs at least one committed token; read the prompt first")]
    NoToken,
    /// The plan has no room for even the root.
    #[error("a draft needs room for at least 1 node, its root, but max_nodes is 0")]
    NoRoom,
    /// An option is outside its range.
    #[error("`{option}` needs to be {needed} but is {given}; change the drafter's options")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its range.
        needed: &'static str,
        /// What was given.
        given: usize,
    },
    /// The proposal is no valid tree.
    #[error("the draft is no valid tree: {0}")]
    Tree(#[from] TreeError),
    /// A builder of trees on the GPU refused what the drafter asked of it.
    #[error("the draft can't be built: {message}")]
    Build {
        /// What is wrong.
        message: String,
    },
}

impl From<TreeBuildError> for DraftError {
    fn from(error: TreeBuildError) -> Self {
        Self::Build {
            message: error.to_string(),
        }
    }
}
