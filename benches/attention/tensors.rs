//! The tensors of a case. Calls take turns over several copies of K and V, as the layers of a model have
//! one cache each: a single one could stay in the caches, and no step of a model finds it there.

use sunfleck::{
    attention::{Element, lengths},
    gpu::{Gpu, GpuError},
    wgpu::Buffer,
};

use crate::{cases::Case, random};

/// Buffers of a case.
pub struct Tensors {
    /// `Q`, `[query, head, dim]`.
    pub query: Buffer,
    /// Copies of `K` and `V`, each `[kv_head, key, dim]`.
    pub caches: Vec<[Buffer; 2]>,
    /// `O` of this crate's kernels, `[query, head, dim]`.
    pub output: Buffer,
    /// `O` of the rival.
    pub rival_output: Buffer,
    /// Lengths of the one sequence.
    pub lengths: Buffer,
}

/// Most copies of a small cache.
const MAX_COPIES: u64 = 64;

impl Tensors {
    /// Fills the tensors; K and V so often that `stream` bytes come together.
    ///
    /// # Errors
    /// [`GpuError::LimitExceeded`] when a tensor passes the limits of `gpu`.
    pub fn new(gpu: &Gpu, case: &Case, stream: u64) -> Result<Self, GpuError> {
        let tensor = |name: &str, seed: u32, elements: u64| {
            let numbers = random::numbers(seed, elements as usize);
            match case.element {
                Element::F16 => {
                    let halves: Vec<_> = numbers.into_iter().map(half::f16::from_f32).collect();
                    gpu.storage_with(name, &halves)
                }
                _ => gpu.storage_with(name, &numbers),
            }
        };
        let cache_bytes = 2 * case.key_elements() * case.element.bits() / 8;
        let copies = stream.div_ceil(cache_bytes).clamp(1, MAX_COPIES);
        let first = [
            tensor("key", 3, case.key_elements())?,
            tensor("value", 4, case.key_elements())?,
        ];
        let mut caches = vec![];
        for _ in 1..copies {
            let mut encoder = gpu.device().create_command_encoder(&Default::default());
            let mut copy = |source: &Buffer| {
                let copy = gpu.storage("copy", source.size())?;
                encoder.copy_buffer_to_buffer(source, 0, &copy, 0, source.size());
                Ok::<_, GpuError>(copy)
            };
            caches.push([copy(&first[0])?, copy(&first[1])?]);
            gpu.queue().submit([encoder.finish()]);
        }
        caches.push(first);
        let output_bytes = case.query_elements() * case.element.bits() / 8;
        Ok(Self {
            query: tensor("query", 2, case.query_elements())?,
            caches,
            output: gpu.storage("output", output_bytes)?,
            rival_output: gpu.storage("rival output", output_bytes)?,
            lengths: gpu.storage_with(
                "lengths",
                lengths(&[(case.queries, case.keys)]).as_flattened(),
            )?,
        })
    }
}

/// Contents of an output, as f32s.
pub fn read(gpu: &Gpu, buffer: &Buffer, element: Element) -> Vec<f32> {
    let read = "the output can be read";
    match element {
        Element::F16 => pollster::block_on(gpu.read_buffer::<half::f16>(buffer))
            .expect(read)
            .into_iter()
            .map(f32::from)
            .collect(),
        _ => pollster::block_on(gpu.read_buffer(buffer)).expect(read),
    }
}
