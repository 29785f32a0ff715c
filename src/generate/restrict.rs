//! A session's steps under a grammar.

use super::{
    GenerateError, Session,
    grammar::{Constraint, Restricted},
};
use crate::{
    draft::{Features, Recording},
    gpu::ReadBack,
    tree::DraftTree,
};

impl Session {
    /// The grammar of a new answer, where there is one.
    pub(super) fn begin_constraint(&self) -> Result<Option<Constraint>, GenerateError> {
        let vocabulary = self.decoder.hyperparameters().vocabulary;
        let grammar = self.grammar.as_ref();
        let constraint = grammar.map(|grammar| Constraint::begin(grammar, vocabulary));
        Ok(constraint.transpose()?)
    }

    /// The mask of the next token, where there is a grammar.
    pub(super) fn masks_of_root(&mut self) -> Result<Option<Vec<u32>>, GenerateError> {
        Ok(match &mut self.constraint {
            Some(constraint) => Some(constraint.restrict(&DraftTree::root_only(0))?.masks),
            None => None,
        })
    }

    /// What the grammar leaves of `tree`; none where there is no grammar. With `on_gpu` the drafter is yet to draft
    /// its tokens, which is done then, with a read-back of its own.
    pub(super) async fn restrict(
        &mut self,
        tree: &DraftTree,
        on_gpu: bool,
    ) -> Result<Option<Restricted>, GenerateError> {
        if self.constraint.is_none() {
            return Ok(None);
        }
        let drafted = match on_gpu {
            true => Some(self.draft_ahead(tree).await?),
            false => None,
        };
        let tree = drafted.as_ref().unwrap_or(tree);
        let restricted = self
            .constraint
            .as_mut()
            .map(|constraint| constraint.restrict(tree));
        Ok(restricted.transpose()?)
    }

    /// Has the drafter draft `tree` on the GPU, and reads its tokens.
    async fn draft_ahead(&mut self, tree: &DraftTree) -> Result<DraftTree, GenerateError> {
        let rows = tree.len() as u32;
        self.write_tree(tree)?;
        let mut encoder = (self.gpu.device()).create_command_encoder(&Default::default());
        let mut recording = Recording {
            gpu: &self.gpu,
            encoder: &mut encoder,
            tokens: &self.committed,
            features: Features::before(self.past, &self.kept),
            drafting: true,
        };
        self.drafter.record(&mut recording)?;
        let read_back = ReadBack::new(&self.gpu, "drafted tokens", u64::from(rows) * 4);
        // A blob begins with the tokens.
        read_back.encode(&mut encoder, self.decoder.tree(), 0);
        self.gpu.queue().submit([encoder.finish()]);
        let bytes = read_back.read(&self.gpu).await?;
        let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        Ok(tree.clone().with_tokens(tokens)?)
    }
}
