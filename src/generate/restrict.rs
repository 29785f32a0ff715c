//! A session's steps under a grammar.

use wgpu::CommandEncoder;

use super::{
    GenerateError, Session,
    grammar::{Constraint, Restricted},
};
use crate::{
    draft::{Drafted, Features, Recording},
    gpu::ReadBack,
    tree::{DraftTree, DrawKind, blob_words},
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

    /// What the grammar leaves of a draft; none where there is no grammar. A drafter that is yet to draft on the GPU
    /// does so then, with a read-back of its own.
    pub(super) async fn restrict(
        &mut self,
        drafted: &Drafted,
    ) -> Result<Option<Restricted>, GenerateError> {
        if self.constraint.is_none() {
            return Ok(None);
        }
        let ahead = match drafted {
            Drafted::OnHost(_) => None,
            _ => Some(self.draft_ahead(drafted.tree()).await?),
        };
        let tree = ahead.as_ref().unwrap_or(drafted.tree());
        let restricted = (self.constraint.as_mut()).map(|constraint| constraint.restrict(tree));
        Ok(restricted.transpose()?)
    }

    /// Has the drafter draft on the GPU, and reads the tree.
    async fn draft_ahead(&mut self, shape: &DraftTree) -> Result<DraftTree, GenerateError> {
        // The drafter may write keys of the draft into the model's own cache.
        let rows = shape.len() as u32;
        if let Some(paging) = &mut self.paging {
            paging.reserve(&self.gpu, self.decoder.cache(), rows)?;
        }
        self.write_tree(shape)?;
        let mut encoder = (self.gpu.device()).create_command_encoder(&Default::default());
        let mut recording = Recording {
            gpu: &self.gpu,
            encoder: &mut encoder,
            tokens: &self.committed,
            features: Features::before(self.past, &self.kept),
            decoder: &self.decoder,
            layers_done: 0,
            drawing: None,
            drafting: true,
        };
        self.drafter.record(&mut recording)?;
        self.encode_tree(&mut encoder);
        self.gpu.queue().submit([encoder.finish()]);
        self.read_tree(shape.draw()).await
    }

    /// Records the copy of the decoder's tree to where the host reads it.
    pub(super) fn encode_tree(&mut self, encoder: &mut CommandEncoder) {
        let bytes = blob_words(self.decoder.max_nodes() as usize) as u64 * 4;
        let read_back = (self.tree).get_or_insert_with(|| ReadBack::new(&self.gpu, "tree", bytes));
        read_back.encode(encoder, self.decoder.tree(), 0);
    }

    /// The tree whose copy was submitted.
    pub(super) async fn read_tree(&self, draw: DrawKind) -> Result<DraftTree, GenerateError> {
        let words: Vec<u32> = match &self.tree {
            Some(tree) => bytemuck::pod_collect_to_vec(&tree.read(&self.gpu).await?),
            None => Vec::new(),
        };
        let stride = self.decoder.max_nodes() as usize;
        Ok(DraftTree::from_blob(&words, stride, draw)?)
    }
}
