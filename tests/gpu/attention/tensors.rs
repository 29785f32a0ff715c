//! Tensors in GPU memory: where their elements lie, and what lies around them.

use sunfleck::{
    attention::{Element, TensorLayout},
    reference::{
        quantised::{self, Integers},
        storage::Storage,
    },
};

/// Bytes of foreign memory before and after each view; a multiple of the alignment of views.
pub const RED_ZONE: usize = 256;

/// What foreign memory holds around an output: it must survive.
const CANARY: u8 = 0xa5;

/// What foreign memory holds around an input, NaN in every element type: it must not leak.
const NAN: u8 = 0xff;

/// Sizes of a dense tensor `[batch, token, head, dim]`.
pub type Sizes = [usize; 4];

pub fn storage(element: Element) -> Storage {
    match element {
        Element::F16 => Storage::F16,
        Element::Bf16 => Storage::Bf16,
        _ => Storage::F32,
    }
}

/// The integers of a quantised type.
fn integers(element: Element) -> Option<Integers> {
    match element {
        Element::Q8 => Some(Integers::Eight),
        Element::Q4 => Some(Integers::Four),
        _ => None,
    }
}

/// `values`, rows of `dim`, as a load from `element` gives them.
pub fn rounded(element: Element, values: Vec<f32>, dim: usize) -> Vec<f32> {
    if let Some(integers) = integers(element) {
        let row = |row| quantised::decode(integers, &quantised::encode(integers, row), dim);
        return values.chunks(dim).flat_map(row).collect();
    }
    let storage = storage(element);
    let round = |value: f32| storage.round(f64::from(value)) as f32;
    values.into_iter().map(round).collect()
}

/// Bytes from a view's first element to one past its last, as a whole number of words.
pub fn extent(layout: &TensorLayout, [batch, tokens, heads, dim]: Sizes) -> usize {
    let last = (batch - 1) * layout.batch_stride as usize
        + (tokens - 1) * layout.token_stride as usize
        + (heads - 1) * layout.head_stride as usize
        + layout.element.row_elements(dim as u32) as usize;
    (last * layout.element.bits() as usize / 8).next_multiple_of(4)
}

/// First byte in its view of row `row` of the dense tensor.
pub fn row_start(layout: &TensorLayout, [_, tokens, heads, _]: Sizes, row: usize) -> usize {
    let (batch, token, head) = (row / (tokens * heads), row / heads % tokens, row % heads);
    let element = batch * layout.batch_stride as usize
        + token * layout.token_stride as usize
        + head * layout.head_stride as usize;
    element * layout.element.bits() as usize / 8
}

/// Memory for inputs: a red zone, `bytes` and a red zone, all NaN.
pub fn input_memory(bytes: usize) -> Vec<u8> {
    vec![NAN; bytes + 2 * RED_ZONE]
}

/// Memory for an output: a red zone, `bytes` and a red zone, all canary.
pub fn output_memory(bytes: usize) -> Vec<u8> {
    vec![CANARY; bytes + 2 * RED_ZONE]
}

/// Puts `[batch, token, head, dim]` values where `layout` wants them in a view that starts at
/// `view`.
pub fn scatter(view: &mut [u8], layout: &TensorLayout, values: &[f32], sizes: Sizes) {
    for (row, values) in values.chunks_exact(sizes[3]).enumerate() {
        let row = &mut view[row_start(layout, sizes, row)..];
        match layout.element {
            Element::Q8 | Element::Q4 if values[0].is_nan() => {} // foreign: stays NaN
            Element::Q8 | Element::Q4 => {
                let integers = integers(layout.element).unwrap();
                let words = quantised::encode(integers, values);
                row[..words.len() * 4].copy_from_slice(bytemuck::cast_slice(&words));
            }
            Element::F16 => {
                for (at, value) in row.chunks_exact_mut(2).zip(values) {
                    at.copy_from_slice(&half::f16::from_f32(*value).to_ne_bytes());
                }
            }
            Element::Bf16 => {
                for (at, value) in row.chunks_exact_mut(2).zip(values) {
                    at.copy_from_slice(&half::bf16::from_f32(*value).to_ne_bytes());
                }
            }
            _ => row[..values.len() * 4].copy_from_slice(bytemuck::cast_slice(values)),
        }
    }
}

/// The values that [`scatter`] put there.
pub fn gather(view: &[u8], layout: &TensorLayout, sizes: Sizes) -> Vec<f32> {
    let [batch, tokens, heads, dim] = sizes;
    let bytes = layout.element.bits() as usize / 8;
    let mut values = Vec::with_capacity(batch * tokens * heads * dim);
    for row in 0..batch * tokens * heads {
        let row = &view[row_start(layout, sizes, row)..][..dim * bytes];
        values.extend(row.chunks_exact(bytes).map(|stored| match *stored {
            [a, b] if layout.element == Element::F16 => half::f16::from_ne_bytes([a, b]).to_f32(),
            [a, b] => half::bf16::from_ne_bytes([a, b]).to_f32(),
            [a, b, c, d] => f32::from_ne_bytes([a, b, c, d]),
            _ => unreachable!("elements have 2 or 4 bytes"),
        }));
    }
    values
}

/// The first byte outside the `written` ranges that is no canary any more, from the start of the
/// view.
pub fn dead_canary(
    memory: &[u8],
    written: impl Iterator<Item = std::ops::Range<usize>>,
) -> Option<i64> {
    let mut foreign = vec![true; memory.len()];
    for range in written {
        foreign[RED_ZONE..][range].fill(false);
    }
    let dead = memory
        .iter()
        .zip(foreign)
        .position(|(byte, foreign)| foreign && *byte != CANARY)?;
    Some(dead as i64 - RED_ZONE as i64)
}
