//! Keys and values of one sequence on the host: for files.

use std::ops::Range;

use wgpu::{Buffer, CommandEncoder};

use super::KvCache;
use crate::gpu::{Gpu, GpuError, ReadBack};

impl KvCache {
    /// Slots of the first `tokens` tokens of the sequence whose pages are `pages`; of sequence 0 in a contiguous
    /// cache.
    pub(crate) fn runs(&self, pages: &[u32], tokens: u32) -> Vec<Range<u32>> {
        let Some(pool) = self.pool() else {
            return std::iter::once(0..tokens).collect();
        };
        let starts = (0..tokens).step_by(pool.page_tokens as usize);
        (starts.zip(pages))
            .map(|(first, page)| {
                let start = page * pool.page_tokens;
                start..start + pool.page_tokens.min(tokens - first)
            })
            .collect()
    }

    /// Bytes of the keys and values of `tokens` tokens in one layer.
    pub(crate) fn layer_bytes(&self, tokens: u32) -> u64 {
        self.shape().token_bytes() / u64::from(self.shape().layers) * u64::from(tokens)
    }

    /// Keys, then values of the slots `runs` in one layer, each `[kv_head, slot, row]`, however they lie in the
    /// cache. Waits for the GPU.
    pub(crate) async fn read_layer(
        &self,
        gpu: &Gpu,
        layer: u32,
        runs: &[Range<u32>],
    ) -> Result<Vec<u8>, GpuError> {
        let tokens = runs.iter().map(|run| run.end - run.start).sum();
        if tokens == 0 {
            return Ok(Vec::new());
        }
        let back = ReadBack::new(gpu, "keys and values", self.layer_bytes(tokens));
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        let mut at = 0;
        for (buffer, offset, size) in self.pieces(layer, runs) {
            back.encode_part(&mut encoder, buffer, offset..offset + size, at);
            at += size;
        }
        gpu.queue().submit([encoder.finish()]);
        back.read(gpu).await
    }

    /// Writes what [`Self::read_layer`] gave to the slots `runs`.
    pub(crate) fn write_layer(&self, gpu: &Gpu, layer: u32, runs: &[Range<u32>], bytes: &[u8]) {
        let mut rest = bytes;
        for (buffer, offset, size) in self.pieces(layer, runs) {
            let Some((piece, following)) = rest.split_at_checked(size as usize) else {
                return;
            };
            gpu.queue().write_buffer(buffer, offset, piece);
            rest = following;
        }
    }

    /// Records the copy of the slots `runs` of all layers to the slots `targets` of `to`, a cache of the same shape: as
    /// many runs, each as long as the one that it is a copy of.
    pub(crate) fn encode_copy(
        &self,
        encoder: &mut CommandEncoder,
        runs: &[Range<u32>],
        to: &KvCache,
        targets: &[Range<u32>],
    ) {
        for layer in 0..self.shape().layers {
            let pairs = self.pieces(layer, runs).into_iter();
            for (from, into) in pairs.zip(to.pieces(layer, targets)) {
                encoder.copy_buffer_to_buffer(from.0, from.1, into.0, into.1, from.2);
            }
        }
    }

    /// Where the rows of `runs` lie: buffer, offset and bytes; every row is whole words.
    fn pieces(&self, layer: u32, runs: &[Range<u32>]) -> Vec<(&Buffer, u64, u64)> {
        let shape = self.shape();
        let slots = u64::from(self.places(4).slots);
        let mut pieces = Vec::new();
        let parts = self.parts(layer);
        let keys = parts.iter().map(|part| (part.keys, part.heads.len()));
        let values = parts.iter().map(|part| (part.values, part.heads.len()));
        for (view, heads, row) in keys
            .map(|(view, heads)| (view, heads, shape.key_row_bytes()))
            .chain(values.map(|(view, heads)| (view, heads, shape.value_row_bytes())))
        {
            for head in 0..heads as u64 {
                for run in runs {
                    let start = (head * slots + u64::from(run.start)) * row;
                    let size = u64::from(run.end - run.start) * row;
                    pieces.push((view.buffer, view.offset + start, size));
                }
            }
        }
        pieces
    }
}
