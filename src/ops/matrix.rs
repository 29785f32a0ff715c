//! Weight matrices on the GPU, quantised as in the file, interleaved for the kernels.
//!
//! A matrix `[rows, columns]` is cut into tiles of 32 rows and each row into blocks of 32
//! columns. Inside a tile the 16-byte units of the rows alternate,
//! `[tile, block, unit, row of tile]`, so that invocations on neighbouring rows read neighbouring
//! 16-byte words: one coalesced load on hardware, one cache line on a CPU. Scales, and bits above
//! the fourth, lie in a buffer of their own, `[tile, group, field, row of tile]`, where a group is the
//! blocks that share scales (`weight_type.rs`, `repack.rs`). A tile never straddles two parts, and a
//! part stays within the binding limit.

use wgpu::Buffer;

use super::{WeightType, repack::Group, weight_type::BLOCK};
use crate::gpu::{BufferView, Gpu, GpuError};

pub(crate) const TILE_ROWS: usize = 32;
/// Tiles that lie in one pair of buffers.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub first_tile: u32,
    pub tiles: u32,
    quants: Buffer,
    scales: Option<Buffer>,
}

impl Part {
    pub fn quants(&self) -> BufferView<'_> {
        BufferView::whole(&self.quants)
    }

    pub fn scales(&self) -> Option<BufferView<'_>> {
        self.scales.as_ref().map(BufferView::whole)
    }
}

/// A weight matrix on the GPU.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Element type.
    pub weight_type: WeightType,
    /// Rows: outputs of a linear layer, tokens of an embedding.
    pub rows: u32,
    /// Columns: inputs of a linear layer.
    pub columns: u32,
    pub(crate) parts: Vec<Part>,
}

impl Matrix {
    /// Blocks of 32 columns in a row.
    pub(crate) fn blocks(&self) -> u32 {
        self.columns.div_ceil(BLOCK as u32)
    }

    /// Parts it was split into, so that each fits a binding.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Bytes of GPU memory the matrix takes.
    pub fn bytes(&self) -> u64 {
        let size = |p: &Part| p.quants.size() + p.scales.as_ref().map_or(0, Buffer::size);
        self.parts.iter().map(size).sum()
    }
}

/// Fills a [`Matrix`] row by row, holding no more than a few tiles on the host.
#[derive(Debug)]
pub struct MatrixWriter<'a> {
    gpu: &'a Gpu,
    matrix: Matrix,
    tile_quants: usize, // bytes of a tile's quants
    tile_scales: usize, // bytes of a tile's scales
    quants: Vec<u8>,    // whole tiles that wait to be uploaded, and the one being filled
    scales: Vec<u8>,
    uploaded: u32, // tiles already on the GPU
    row: u32,      // next row
}

/// Host bytes that are gathered before an upload.
const CHUNK: usize = 1 << 20;

impl<'a> MatrixWriter<'a> {
    /// Allocates a matrix of `rows` x `columns`, in several buffers where one would pass the
    /// device's binding limit.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] when not even one tile of 32 rows fits a binding.
    pub fn new(
        gpu: &'a Gpu,
        label: &str,
        weight_type: WeightType,
        rows: u32,
        columns: u32,
    ) -> Result<Self, GpuError> {
        let blocks = (columns as usize).div_ceil(BLOCK);
        let groups = blocks.div_ceil(weight_type.group_blocks());
        let tile_quants = blocks * TILE_ROWS * weight_type.quant_bytes();
        let tile_scales = groups * TILE_ROWS * weight_type.scale_bytes();
        let limits = &gpu.capabilities().limits;
        let largest = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        let tiles = rows.div_ceil(TILE_ROWS as u32).max(1);
        let fitting = u32::try_from(largest / tile_quants.max(1) as u64).unwrap_or(u32::MAX);
        let tiles_per_part = fitting.clamp(1, tiles);
        let mut parts = Vec::new();
        let mut first_tile = 0;
        while first_tile < tiles {
            let count = tiles_per_part.min(tiles - first_tile);
            let bytes = |tile: usize| u64::from(count) * tile as u64;
            let scales = (tile_scales > 0)
                .then(|| gpu.storage(&format!("{label}.scales"), bytes(tile_scales)));
            parts.push(Part {
                first_tile,
                tiles: count,
                quants: gpu.storage(label, bytes(tile_quants))?,
                scales: scales.transpose()?,
            });
            first_tile += count;
        }
        Ok(Self {
            gpu,
            matrix: Matrix {
                weight_type,
                rows,
                columns,
                parts,
            },
            tile_quants,
            tile_scales,
            quants: Vec::new(),
            scales: Vec::new(),
            uploaded: 0,
            row: 0,
        })
    }

    /// Bytes of one stored row.
    pub fn row_bytes(&self) -> usize {
        self.matrix.weight_type.row_bytes(self.matrix.columns)
    }

    /// Appends whole rows as they are stored in a file. Bytes after the last whole row and rows
    /// past the end of the matrix are ignored.
    pub fn push_rows(&mut self, rows: &[u8]) {
        for row in rows.chunks_exact(self.row_bytes().max(1)) {
            self.push_row(row);
        }
    }

    fn push_row(&mut self, row: &[u8]) {
        if self.row >= self.matrix.rows {
            return;
        }
        let slot = self.row as usize % TILE_ROWS;
        if slot == 0 {
            if self.quants.len() >= CHUNK {
                self.upload();
            }
            self.quants.resize(self.quants.len() + self.tile_quants, 0);
            self.scales.resize(self.scales.len() + self.tile_scales, 0);
        }
        let quants_start = self.quants.len() - self.tile_quants;
        let scales_start = self.scales.len() - self.tile_scales;
        let quants = &mut self.quants[quants_start..];
        let scales = &mut self.scales[scales_start..];
        let weight_type = self.matrix.weight_type;
        let (group_blocks, quant_bytes) = (weight_type.group_blocks(), weight_type.quant_bytes());
        let blocks = self.matrix.blocks() as usize;
        let mut group = Group::default();
        // The last block of a row of floats may be short: the rest of it stays zero.
        for (g, stored) in row.chunks(weight_type.stored_bytes()).enumerate() {
            if stored.len() < weight_type.stored_bytes() {
                group = Group::default();
            }
            group.fill(weight_type, stored);
            let first = g * group_blocks;
            for (i, block) in (first..blocks.min(first + group_blocks)).enumerate() {
                let elements = &group.quants[i * quant_bytes..][..quant_bytes];
                for (unit, bytes) in elements.chunks_exact(16).enumerate() {
                    let at = ((block * (quant_bytes / 16) + unit) * TILE_ROWS + slot) * 16;
                    quants[at..at + 16].copy_from_slice(bytes);
                }
            }
            let mut read = 0;
            for bytes in weight_type.scale_fields() {
                let field = (g * weight_type.scale_bytes() + read) * TILE_ROWS;
                scales[field + slot * bytes..][..*bytes]
                    .copy_from_slice(&group.scales[read..read + bytes]);
                read += bytes;
            }
        }
        self.row += 1;
    }

    /// Writes the gathered tiles to the parts they belong to.
    fn upload(&mut self) {
        let tiles = self.quants.len() / self.tile_quants.max(1);
        for i in 0..tiles {
            let tile = self.uploaded + i as u32;
            let found = (self.matrix.parts.iter())
                .find(|p| (p.first_tile..p.first_tile + p.tiles).contains(&tile));
            let Some(part) = found else { continue };
            let at = u64::from(tile - part.first_tile);
            let queue = self.gpu.queue();
            queue.write_buffer(
                &part.quants,
                at * self.tile_quants as u64,
                &self.quants[i * self.tile_quants..][..self.tile_quants],
            );
            if let Some(scales) = &part.scales {
                queue.write_buffer(
                    scales,
                    at * self.tile_scales as u64,
                    &self.scales[i * self.tile_scales..][..self.tile_scales],
                );
            }
        }
        self.uploaded += tiles as u32;
        self.quants.clear();
        self.scales.clear();
    }

    /// Uploads what is left and returns the matrix. Rows never pushed are zero.
    pub fn finish(mut self) -> Matrix {
        self.upload();
        self.matrix
    }
}
