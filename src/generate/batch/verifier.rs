//! Verification of one chain of each answer of a batch.

use wgpu::{Buffer, CommandEncoder, ComputePass};

use super::super::{GenerateError, TokenChoice};
use crate::{
    gpu::{BufferView, Gpu, ReadBack},
    model::BatchDecoder,
    tree::{DraftTree, blob_words},
    verify::{Verdict, Verify, VerifyIo, VerifyProblem, VerifyRequest},
};

/// What is to be verified of one answer.
pub(super) struct ChainCheck<'a> {
    pub choice: &'a TokenChoice,
    /// The chain.
    pub tree: &'a DraftTree,
    /// Its tokens; the last one is the chain's root.
    pub committed: &'a [u32],
    /// Position of the root.
    pub position: u32,
    /// Of a grammar, `[node, word]`.
    pub masks: Option<&'a [u32]>,
}

/// The kernels of verification, bound once for each distance of the answers' first rows.
pub(super) struct BatchVerifier {
    gpu: Gpu,
    sizes: Vec<Bound>, // nodes ascend
    trees: Buffer,     // blobs of the chains
    lengths: Buffer,   // [chain] of four u32s, of which the second is the root's position
    masks: Buffer,     // [chain, 1 + nodes, word]
    words: usize,      // of a mask
    top: u32,
}

/// A verification of chains of at most `nodes` nodes.
struct Bound {
    nodes: u32,
    problem: VerifyProblem,
    verify: Verify,
    read_back: ReadBack,
}

impl BatchVerifier {
    /// Compiles and binds; `top` likeliest tokens are listed beside each kept one.
    pub async fn new(
        gpu: &Gpu,
        decoder: &BatchDecoder,
        vocabulary: u32,
        top: u32,
    ) -> Result<Self, GenerateError> {
        let (batch, most) = (decoder.sequences(), decoder.each());
        let problem = |nodes| VerifyProblem {
            penalties: true,
            grammar: true,
            top_log_probabilities: top,
            ..VerifyProblem::new(batch, nodes, vocabulary)
        };
        let bytes = |words: u64| words * u64::from(batch) * 4;
        let words = problem(most).mask_words() as usize;
        let mask_rows = problem(most).mask_rows() as usize;
        let trees = gpu.storage("chains", bytes(blob_words(most as usize) as u64))?;
        let lengths = gpu.storage("positions", bytes(4))?;
        let masks = gpu.storage("masks", bytes((mask_rows * words) as u64))?;
        let mut sizes = Vec::new();
        let powers = (0..)
            .map(|power| 1 << power)
            .take_while(|size| *size < most);
        for nodes in powers.chain([most]) {
            let problem = problem(nodes);
            let range = |buffer, words: u64| BufferView::range(buffer, 0, bytes(words));
            let io = VerifyIo {
                logits: range(decoder.logits(), u64::from(nodes) * u64::from(vocabulary)),
                draft: None,
                tree: range(&trees, blob_words(nodes as usize) as u64),
                lengths: BufferView::whole(&lengths),
                masks: Some(range(
                    &masks,
                    u64::from(problem.mask_rows()) * u64::from(problem.mask_words()),
                )),
            };
            let verdicts = bytes(problem.outcome_words() as u64);
            sizes.push(Bound {
                nodes,
                problem,
                verify: gpu.plan_verify(&problem)?.prepare().await?.bind(&io)?,
                read_back: ReadBack::new(gpu, "verdicts", verdicts),
            });
        }
        Ok(Self {
            gpu: gpu.clone(),
            sizes,
            trees,
            lengths,
            masks,
            words,
            top,
        })
    }

    /// Likeliest tokens that are listed beside each kept one.
    pub fn top(&self) -> u32 {
        self.top
    }

    /// Says what the next submission verifies, one chain a request, and returns how far apart their first rows have to
    /// be.
    pub fn set_step(&self, chains: &[ChainCheck<'_>]) -> Result<u32, GenerateError> {
        let most = chains.iter().map(|chain| chain.tree.len()).max();
        let bound = self.sized(most.unwrap_or(1) as u32);
        let nodes = bound.nodes as usize;
        let (mut blobs, mut places) = (Vec::new(), Vec::new());
        for (index, chain) in (0..).zip(chains) {
            blobs.extend(chain.tree.blob(nodes)?);
            places.push([chain.tree.len() as u32, chain.position, 0, 0]);
            let choice = chain.choice;
            let mut request = VerifyRequest::new(choice.rule, chain.tree.draw(), choice.seed);
            request.sampling = choice.sampling;
            request.grammar = chain.masks.is_some();
            bound.verify.set_request(index, &request)?;
            let row = self.words as u64 * 4;
            let first = u64::from(index) * (nodes as u64 + 1) * row;
            if choice.has_penalty() {
                let occurred = self.occurred(chain.committed);
                self.write(&self.masks, first, &occurred);
            }
            if let Some(masks) = chain.masks {
                self.write(&self.masks, first + row, masks);
            }
        }
        self.write(&self.trees, 0, &blobs);
        self.write(&self.lengths, 0, places.as_flattened());
        Ok(bound.nodes)
    }

    fn write(&self, buffer: &Buffer, offset: u64, words: &[u32]) {
        let bytes = bytemuck::cast_slice(words);
        self.gpu.queue().write_buffer(buffer, offset, bytes);
    }

    /// Bits of the tokens that occurred.
    fn occurred(&self, committed: &[u32]) -> Vec<u32> {
        let mut bits = vec![0u32; self.words];
        for token in committed {
            if let Some(word) = bits.get_mut(*token as usize / 32) {
                *word |= 1 << (token % 32);
            }
        }
        bits
    }

    /// The smallest binding for chains of `nodes` nodes.
    fn sized(&self, nodes: u32) -> &Bound {
        let fits = |bound: &&Bound| bound.nodes >= nodes;
        let largest = &self.sizes[self.sizes.len() - 1];
        self.sizes.iter().find(fits).unwrap_or(largest)
    }

    /// Records the verification.
    pub fn encode(&self, pass: &mut ComputePass<'_>, nodes: u32) {
        self.sized(nodes).verify.encode(pass);
    }

    /// Records the copy of the verdicts to where the host reads them.
    pub fn encode_read(&self, encoder: &mut CommandEncoder, nodes: u32) {
        let bound = self.sized(nodes);
        (bound.read_back).encode(encoder, bound.verify.outcome(), 0);
    }

    /// Waits for the verdicts on the first `chains` requests.
    pub async fn read(&self, nodes: u32, chains: usize) -> Result<Vec<Verdict>, GenerateError> {
        let bound = self.sized(nodes);
        let bytes = bound.read_back.read(&self.gpu).await?;
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&bytes);
        let each = words.chunks(bound.problem.outcome_words());
        let verdicts = each.take(chains).map(|words| bound.problem.verdict(words));
        Ok(verdicts.collect::<Result<_, _>>()?)
    }
}
