//! How a decoder is set up, and what its steps are for.

use crate::attention::Element;

/// How a decoder is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecoderOptions {
    /// Tokens a sequence may have: prompt, output and drafts together.
    pub context: u32,
    /// Rows computed at once while the prompt is read, at least `max_draft + 1`; rounded up to a
    /// multiple of 64.
    pub prompt_rows: u32,
    /// Most drafted tokens in one step.
    pub max_draft: u32,
    /// Element type of the cache.
    pub cache: Element,
    /// Tokens of a page of the cache, a power of 2 from 16 to 256; `None` for a contiguous cache.
    pub page: Option<u32>,
    /// Sequences that [`Batch`](crate::generate::Batch) decodes at once, each with a cache of its own for `context`
    /// tokens, or pages for as many; 1 for none.
    pub sequences: u32,
    /// Whether loading ends while kernels still compile, on a [`Gpu`](crate::gpu::Gpu) with a
    /// [`Compiler`](crate::gpu::Compiler): the first token needs no more than half of them. Sessions wait for those
    /// that a step needs; other callers wait for [`Decoder::compiled`](super::Decoder::compiled).
    pub lazy_kernels: bool,
}

impl Default for DecoderOptions {
    /// 2,048 tokens of context, prompts in steps of 128, up to 15 drafted tokens, contiguous f32 cache,
    /// one sequence, all kernels compiled.
    fn default() -> Self {
        Self {
            context: 2048,
            prompt_rows: 128,
            max_draft: 15,
            cache: Element::F32,
            page: None,
            sequences: 1,
            lazy_kernels: false,
        }
    }
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// Part of a prompt that more of it follows: only keys and values are wanted.
    Prompt,
    /// The last part of a prompt: the next token is wanted.
    LastPrompt,
    /// The last committed token and a draft that is a chain.
    Chain,
    /// The last committed token and a draft with branches.
    Tree,
}
