//! Verification by sampling, bound to a decoder: what a session uses where the argmax is not enough.

use wgpu::{Buffer, CommandEncoder, ComputePass};

use super::{GenerateError, TokenChoice};
use crate::{
    draft::Drawing,
    gpu::{BufferView, Gpu, GpuError, ReadBack},
    model::Decoder,
    ops::StepBuffer,
    tree::{DraftTree, DrawKind},
    verify::{Verdict, Verify, VerifyIo, VerifyProblem, VerifyRequest},
};

/// What the kernels have to be bound for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SamplerNeeds {
    pub penalties: bool,
    pub grammar: bool,
    /// Whether drafts may be drawn by chance.
    pub drawn: bool,
    /// Likeliest tokens listed beside each.
    pub top: u32,
}

impl SamplerNeeds {
    /// Whether what was bound for `self` serves `other` too.
    pub fn cover(self, other: Self) -> bool {
        self.penalties >= other.penalties
            && self.grammar >= other.grammar
            && self.drawn >= other.drawn
            && self.top == other.top
    }
}

/// The kernels of sampling over the rows of a step, and over the one row after a prompt.
pub(super) struct Sampler {
    gpu: Gpu,
    needs: SamplerNeeds,
    step: Bound,
    first: Bound,
    place: StepBuffer, // the root's absolute position
    root: Buffer,      // blob of a tree of one node, for the token after a prompt
    masks: Option<Masks>,
    request: Option<VerifyRequest>, // as the GPU has it
    kernels: Gpu,                   // with those that no step needed yet
}

/// A verification of trees of at most `nodes` nodes.
struct Bound {
    verify: Verify,
    read_back: ReadBack,
    problem: VerifyProblem,
}

/// Bits of tokens: those that occurred, then a row a node with those that the grammar allows.
struct Masks {
    buffer: Buffer,
    words: usize,       // of a row
    occurred: Vec<u32>, // as the GPU has them
    tokens: usize,      // committed tokens that are counted there
    stale: bool,        // others than the committed tokens may be
}

impl Bound {
    async fn new(
        gpu: &Gpu,
        problem: &VerifyProblem,
        io: &VerifyIo<'_>,
    ) -> Result<Self, GenerateError> {
        let bytes = problem.outcome_words() as u64 * 4;
        Ok(Self {
            verify: gpu.plan_verify(problem)?.prepare().await?.bind(io)?,
            read_back: ReadBack::new(gpu, "verdict", bytes),
            problem: *problem,
        })
    }
}

impl Sampler {
    /// Compiles the kernels and binds them to the decoder's logits and tree, and to those of `drawing`.
    pub async fn new(
        gpu: &Gpu,
        decoder: &Decoder,
        needs: SamplerNeeds,
        drawing: Option<&Drawing>,
    ) -> Result<Self, GenerateError> {
        let vocabulary = decoder.hyperparameters().vocabulary;
        let nodes = decoder.options().max_draft + 1;
        let of_step = VerifyProblem {
            // The step's tree is read where it lies, whoever wrote it there.
            tree_stride: decoder.max_nodes(),
            penalties: needs.penalties,
            grammar: needs.grammar,
            top_log_probabilities: needs.top,
            draft_rows: drawing.map_or(0, |drawing| drawing.depth() as u32),
            ..VerifyProblem::new(1, nodes, vocabulary)
        };
        let of_one = VerifyProblem {
            max_nodes: 1,
            tree_stride: 1,
            draft_rows: 0,
            ..of_step
        };
        let place = StepBuffer::new(gpu, 1, 0)?;
        let root = gpu.storage_with("root", &DraftTree::root_only(0).blob(1)?)?;
        let words = of_step.mask_words() as usize;
        let masks = match of_step.mask_rows() {
            0 => None,
            rows => Some(Masks {
                buffer: gpu.storage("masks", u64::from(rows) * words as u64 * 4)?,
                words,
                occurred: vec![0; words],
                tokens: 0,
                stale: false,
            }),
        };
        let io = |tree, problem: &VerifyProblem| VerifyIo {
            logits: BufferView::whole(decoder.logits()),
            draft: drawing
                .filter(|_| problem.draft_rows > 0)
                .map(|drawing| BufferView::whole(drawing.logits())),
            tree,
            lengths: place.view(),
            masks: masks.as_ref().map(|masks| {
                let bytes = u64::from(problem.mask_rows()) * masks.words as u64 * 4;
                BufferView::range(&masks.buffer, 0, bytes)
            }),
        };
        // Most requests use few of them.
        let kernels = gpu.ahead();
        let later = kernels.later();
        let step = Bound::new(&later, &of_step, &io(decoder.tree().into(), &of_step)).await?;
        let first = Bound::new(&later, &of_one, &io((&root).into(), &of_one)).await?;
        kernels.close();
        Ok(Self {
            gpu: gpu.clone(),
            needs,
            step,
            first,
            place,
            root,
            masks,
            request: None,
            kernels,
        })
    }

    /// What it was bound for.
    pub fn needs(&self) -> SamplerNeeds {
        self.needs
    }

    /// Committed tokens were taken back: which occurred is to be counted anew.
    pub fn forget(&mut self) {
        if let Some(masks) = &mut self.masks {
            masks.stale = true;
        }
    }

    /// Says what the next submission verifies: the decoder's tree, made by `draw`, or after a prompt the one token after
    /// its last one, of which the logits' row 0 is. The last of the `committed` tokens stands at `position`. `grammar`
    /// has a mask a node, `[node, word]`.
    pub fn set_step(
        &mut self,
        choice: &TokenChoice,
        draw: DrawKind,
        after_prompt: bool,
        committed: &[u32],
        position: u32,
        grammar: Option<&[u32]>,
    ) -> Result<(), GenerateError> {
        let mut request = VerifyRequest::new(choice.rule, draw, choice.seed);
        request.sampling = choice.sampling;
        request.grammar = grammar.is_some();
        if let (true, Some(drawn)) = (draw != DrawKind::TopK, choice.draws()) {
            request.drafting.temperature = drawn.temperature;
            request.drafting.top_k = drawn.top_k;
        }
        if self.request != Some(request) {
            self.step.verify.set_request(0, &request)?;
            // The tree of a root has nothing drawn.
            let root = VerifyRequest {
                draw: DrawKind::TopK,
                ..request
            };
            self.first.verify.set_request(0, &root)?;
            self.request = Some(request);
        }
        self.place.set_past(&self.gpu, position);
        if let (true, Some(token)) = (after_prompt, committed.last()) {
            let queue = self.gpu.queue();
            queue.write_buffer(&self.root, 0, bytemuck::bytes_of(token));
        }
        if let Some(masks) = &mut self.masks {
            masks.set_occurred(&self.gpu, committed);
            if let Some(grammar) = grammar {
                let offset = masks.words as u64 * 4;
                self.gpu
                    .queue()
                    .write_buffer(&masks.buffer, offset, bytemuck::cast_slice(grammar));
            }
        }
        Ok(())
    }

    /// Waits for the kernels that [`encode`](Self::encode) records, where they are compiled when they are needed.
    pub async fn ready(&self, after_prompt: bool) -> Result<(), GpuError> {
        if self.kernels.is_compiled() {
            return Ok(());
        }
        let mut encoder = (self.gpu.device()).create_command_encoder(&Default::default());
        self.encode(
            &mut encoder.begin_compute_pass(&Default::default()),
            after_prompt,
        );
        drop(encoder);
        self.kernels.compiled_missing().await
    }

    /// Records the verification: of the one row after a prompt, or of a step's tree.
    pub fn encode(&self, pass: &mut ComputePass<'_>, after_prompt: bool) {
        self.bound(after_prompt).verify.encode(pass);
    }

    /// Records the copy of the verdict to where the host reads it, and of path and tokens to the
    /// decoder's outcome, where commit and drafters look.
    pub fn encode_verdict(
        &self,
        encoder: &mut CommandEncoder,
        decoder: &Decoder,
        after_prompt: bool,
    ) {
        let bound = self.bound(after_prompt);
        let (verdict, outcome) = (bound.verify.outcome(), decoder.outcome());
        let (nodes, stride) = (
            u64::from(bound.problem.max_nodes),
            u64::from(decoder.max_nodes()),
        );
        // Counts and path, then the tokens, which lie a stride of each side's own further on.
        encoder.copy_buffer_to_buffer(verdict, 0, outcome, 0, (2 + nodes) * 4);
        let (from, to) = ((2 + nodes) * 4, (2 + stride) * 4);
        encoder.copy_buffer_to_buffer(verdict, from, outcome, to, nodes * 4);
        bound.read_back.encode(encoder, verdict, 0);
    }

    /// Waits for the verdict.
    pub async fn read(&self, after_prompt: bool) -> Result<Verdict, GenerateError> {
        let bound = self.bound(after_prompt);
        let bytes = bound.read_back.read(&self.gpu).await?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        Ok(bound.problem.verdict(&words)?)
    }

    fn bound(&self, after_prompt: bool) -> &Bound {
        match after_prompt {
            true => &self.first,
            false => &self.step,
        }
    }
}

impl Masks {
    /// Sets the bits of the committed tokens; writes the words that changed.
    fn set_occurred(&mut self, gpu: &Gpu, committed: &[u32]) {
        if std::mem::take(&mut self.stale) {
            self.occurred.fill(0);
            self.tokens = 0;
            gpu.queue()
                .write_buffer(&self.buffer, 0, bytemuck::cast_slice(&self.occurred));
        }
        for token in committed.get(self.tokens..).unwrap_or_default() {
            let (word, bit) = (*token as usize / 32, 1 << (token % 32));
            let Some(bits) = self.occurred.get_mut(word).filter(|bits| **bits & bit == 0) else {
                continue;
            };
            *bits |= bit;
            let offset = word as u64 * 4;
            gpu.queue()
                .write_buffer(&self.buffer, offset, bytemuck::bytes_of(bits));
        }
        self.tokens = committed.len();
    }
}
