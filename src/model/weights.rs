//! From tensors in a file to matrices on the GPU, in chunks: the host never holds a whole copy.

use std::ops::Range;

use wgpu::Buffer;

use super::{GgmlType, Gguf, LoadError, TensorInfo, WeightSource, fingerprint::Fingerprint, gguf};
use crate::{
    gpu::Gpu,
    ops::{Matrix, MatrixWriter, WeightType},
};

/// Host bytes read from the file at a time.
const CHUNK: u64 = 1 << 20;
/// Tensors that are read in turns: gate and up projection.
const WINDOWS: usize = 2;
/// Bytes handed to the queue before it is flushed: until then they wait in host memory.
const FLUSH: u64 = 32 << 20;

/// Reads tensors of one file into GPU buffers.
pub(crate) struct WeightLoader<'a, S> {
    gpu: &'a Gpu,
    gguf: &'a Gguf,
    source: &'a mut S,
    progress: &'a mut dyn FnMut(u64, u64),
    total: u64,
    read: u64,
    flushed: u64,
    windows: Vec<Window>,
    fingerprint: Fingerprint,
}

/// Bytes of one tensor that were read together.
struct Window {
    tensor_offset: u64,
    start: u64, // from the start of the tensor
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes `range` of the tensor at `tensor_offset`, where this window has them all.
    fn part(&self, tensor_offset: u64, range: &Range<u64>) -> Option<&[u8]> {
        let from = range.start.checked_sub(self.start)?;
        let found = self
            .bytes
            .get(from as usize..(range.end - self.start) as usize);
        found.filter(|_| self.tensor_offset == tensor_offset)
    }
}

/// Rows of one tensor that go into a matrix.
type RowRange<'t> = (&'t TensorInfo, u64, u64);

impl<'a, S: WeightSource> WeightLoader<'a, S> {
    /// `progress` is called with bytes read so far and bytes in all.
    pub fn new(
        gpu: &'a Gpu,
        gguf: &'a Gguf,
        source: &'a mut S,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let total = gguf.tensors().iter().map(|t| t.byte_len).sum();
        Self {
            gpu,
            gguf,
            source,
            progress,
            total,
            read: 0,
            flushed: 0,
            windows: Vec::new(),
            fingerprint: Fingerprint::default(),
        }
    }

    /// Of what was read so far.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// A vector, such as the weight of a norm, as f32 padded with zeros to a multiple of 4.
    pub async fn vector(&mut self, name: &str) -> Result<Buffer, LoadError> {
        let mut values = self.values(name).await?;
        values.resize(values.len().next_multiple_of(4), 0.0);
        Ok(self.gpu.storage_with(name, &values)?)
    }

    /// Vectors one after the other, such as the biases of query, key and value.
    pub async fn joined(&mut self, names: &[String]) -> Result<Buffer, LoadError> {
        let mut values = Vec::new();
        for name in names {
            values.extend(self.values(name).await?);
        }
        let label = names.first().map_or("", String::as_str);
        Ok(self.gpu.storage_with(label, &values)?)
    }

    /// The elements of a vector.
    pub async fn values(&mut self, name: &str) -> Result<Vec<f32>, LoadError> {
        let tensor = self.gguf.tensor(name)?;
        let mut bytes = Vec::new();
        self.read(tensor, 0..tensor.byte_len, &mut bytes).await?;
        self.advance(tensor.byte_len);
        let values: Vec<f32> = match tensor.kind {
            GgmlType::F32 => bytemuck::pod_collect_to_vec(&bytes),
            GgmlType::F16 => bytes
                .chunks_exact(2)
                .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            GgmlType::Bf16 => bytes
                .chunks_exact(2)
                .map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            kind => {
                return Err(LoadError::VectorType {
                    tensor: name.to_owned(),
                    kind,
                });
            }
        };
        Ok(values)
    }

    /// Matrices whose rows are those of the tensors `names`, one after the other: one matrix
    /// where all have the same type, otherwise one for each run of equal types.
    pub async fn stacked(&mut self, names: &[String]) -> Result<Vec<Matrix>, LoadError> {
        let tensors: Vec<&TensorInfo> = (names.iter())
            .map(|name| self.gguf.tensor(name))
            .collect::<Result<_, _>>()?;
        let runs = tensors.chunk_by(|a, b| a.kind == b.kind);
        let mut matrices = Vec::new();
        for run in runs {
            let ranges: Vec<_> = run.iter().map(|t| (*t, 0, rows(t))).collect();
            let total_rows = ranges.iter().map(|r| r.2).sum();
            matrices.push(self.matrix(&ranges, total_rows).await?);
        }
        Ok(matrices)
    }

    /// Single rows of one tensor, in the order of `ids`; read fastest where that ascends.
    pub async fn picked(&mut self, name: &str, ids: &[u32]) -> Result<Matrix, LoadError> {
        let tensor = self.gguf.tensor(name)?;
        let ranges: Vec<_> = ids.iter().map(|id| (tensor, u64::from(*id), 1)).collect();
        self.matrix(&ranges, ids.len() as u64).await
    }

    /// Gate and up projections as one matrix, 16 rows of each in turn, the last ones padded with
    /// zeros; `None` where their types differ.
    pub async fn gate_up(&mut self, gate: &str, up: &str) -> Result<Option<Matrix>, LoadError> {
        const HALF: u64 = 16; // half a tile: see `Epilogue::SwiGlu`
        let (gate, up) = (self.gguf.tensor(gate)?, self.gguf.tensor(up)?);
        if gate.kind != up.kind {
            return Ok(None);
        }
        let width = rows(gate);
        let mut ranges = Vec::new();
        for first in (0..width).step_by(HALF as usize) {
            ranges.push((gate, first, HALF));
            ranges.push((up, first, HALF));
        }
        let padded = width.next_multiple_of(HALF) * 2;
        Ok(Some(self.matrix(&ranges, padded).await?))
    }

    /// A matrix of `total_rows` rows from ranges of rows; rows past a tensor's end are zero.
    async fn matrix(
        &mut self,
        ranges: &[RowRange<'_>],
        total_rows: u64,
    ) -> Result<Matrix, LoadError> {
        let Some((first, _, _)) = ranges.first() else {
            return Err(LoadError::Empty);
        };
        let too_large = || LoadError::TooLarge {
            tensor: first.name.clone(),
            shape: first.shape.clone(),
        };
        let columns = u32::try_from(columns(first)).map_err(|_| too_large())?;
        let total_rows = u32::try_from(total_rows).map_err(|_| too_large())?;
        let weight_type = weight_type(first);
        let mut writer =
            MatrixWriter::new(self.gpu, &first.name, weight_type, total_rows, columns)?;
        let row_bytes = first.row_bytes().max(1);
        let mut pending = 0; // bytes of the ranges gathered but not yet pushed
        let mut gathered = Vec::new();
        for (tensor, begin, count) in ranges {
            let present = rows(tensor).saturating_sub(*begin).min(*count);
            let rows_per_chunk = (CHUNK / row_bytes).max(1);
            let mut row = 0;
            while row < present {
                let take = rows_per_chunk.min(present - row);
                let start = (begin + row) * row_bytes;
                let bytes = start..start + take * row_bytes;
                self.read(tensor, bytes, &mut gathered).await?;
                pending += take * row_bytes;
                row += take;
                if gathered.len() as u64 >= CHUNK {
                    writer.push_rows(&gathered);
                    gathered.clear();
                    self.advance(std::mem::take(&mut pending));
                }
            }
            gathered.resize(gathered.len() + ((count - present) * row_bytes) as usize, 0);
            if gathered.len() as u64 >= CHUNK {
                writer.push_rows(&gathered);
                gathered.clear();
                self.advance(std::mem::take(&mut pending));
            }
        }
        writer.push_rows(&gathered);
        self.advance(pending);
        Ok(writer.finish())
    }

    /// Appends the bytes `range` of `tensor`'s data to `bytes`. A window after them is read with them, since a
    /// source may take long to answer and ranges can be short.
    async fn read(
        &mut self,
        tensor: &TensorInfo,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), LoadError> {
        let parts = |window: &Window| window.part(tensor.offset, &range).map(<[u8]>::to_vec);
        if let Some(part) = self.windows.iter().find_map(parts) {
            bytes.extend_from_slice(&part);
            return Ok(());
        }
        let end = (range.start.saturating_add(CHUNK))
            .max(range.end)
            .min(tensor.byte_len);
        let wanted = range.start..end;
        // Checks the range, also one that ends past the tensor.
        self.gguf.place_in_file(tensor, &range)?;
        let (offset, len) = self.gguf.place_in_file(tensor, &wanted)?;
        let mut window = Window {
            tensor_offset: tensor.offset,
            start: range.start,
            bytes: vec![0; len],
        };
        (self.source.read_at(offset, &mut window.bytes).await)
            .map_err(|error| gguf::read_failed(tensor, &wanted, error))?;
        self.fingerprint.add(tensor, range.start, &window.bytes);
        bytes.extend_from_slice(&window.bytes[..(range.end - range.start) as usize]);
        let same = (self.windows.iter()).position(|old| old.tensor_offset == tensor.offset);
        match same {
            Some(at) => self.windows[at] = window,
            None => {
                self.windows.truncate(WINDOWS - 1);
                self.windows.insert(0, window);
            }
        }
        Ok(())
    }

    fn advance(&mut self, bytes: u64) {
        self.read += bytes;
        if self.read - self.flushed >= FLUSH {
            // An empty submission starts the copies, and waiting for them frees what they held.
            self.gpu.queue().submit([]);
            let _ = self.gpu.device().poll(wgpu::PollType::wait_indefinitely());
            self.flushed = self.read;
        }
        (self.progress)(self.read, self.total);
    }
}

fn columns(tensor: &TensorInfo) -> u64 {
    tensor.shape.first().copied().unwrap_or(1)
}

fn rows(tensor: &TensorInfo) -> u64 {
    tensor.shape.iter().skip(1).product()
}

fn weight_type(tensor: &TensorInfo) -> WeightType {
    match tensor.kind {
        GgmlType::F32 => WeightType::F32,
        GgmlType::F16 => WeightType::F16,
        GgmlType::Bf16 => WeightType::Bf16,
        GgmlType::Q8_0 => WeightType::Q8_0,
        GgmlType::Q4_0 => WeightType::Q4_0,
        GgmlType::Q4_1 => WeightType::Q4_1,
        GgmlType::Q5_0 => WeightType::Q5_0,
        GgmlType::Q5_1 => WeightType::Q5_1,
        GgmlType::Q4K => WeightType::Q4K,
        GgmlType::Q5K => WeightType::Q5K,
        GgmlType::Q6K => WeightType::Q6K,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::model::ReaderSource;

    /// A table with one tensor of `rows` x 256 f32s, and its bytes.
    fn one_tensor(rows: u64) -> (Gguf, Vec<u8>) {
        let bytes = vec![1u8; rows as usize * 1024];
        let tensor = TensorInfo {
            name: "head".to_owned(),
            shape: vec![256, rows],
            kind: GgmlType::F32,
            offset: 0,
            byte_len: bytes.len() as u64,
        };
        let gguf = Gguf::assemble(Default::default(), vec![tensor], bytes.len() as u64);
        (gguf.unwrap(), bytes)
    }

    #[test]
    fn a_large_matrix_goes_to_the_gpu_in_chunks() {
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor::default());
        let gpu = Gpu::new(&device, &queue);
        let (gguf, bytes) = one_tensor(5_000);
        let total = bytes.len() as u64;
        let mut steps = vec![0];
        let mut progress = |done, of| {
            assert_eq!(of, total);
            steps.push(done);
        };
        let mut cursor = Cursor::new(bytes);
        let mut source = ReaderSource(&mut cursor);
        let mut loader = WeightLoader::new(&gpu, &gguf, &mut source, &mut progress);
        let loaded = pollster::block_on(loader.stacked(&["head".to_owned()])).unwrap();
        assert_eq!((loaded[0].rows, loaded[0].columns), (5_000, 256));
        // What is between two of them was held by the host at once.
        let most = steps.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!(most, Some(CHUNK));
        assert_eq!(steps.last(), Some(&total));
    }
}
