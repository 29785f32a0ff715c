//! How tensors lie in memory.

/// Elements along the head that share a scale in quantised storage.
pub const QUANT_BLOCK: u32 = 32;

/// Element type of a tensor in memory. All arithmetic is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats, two to a word; needs no device feature.
    F16,
    /// The upper half of a 32-bit float, two to a word.
    Bf16,
    /// Keys and values only: 8-bit integers in blocks of [`QUANT_BLOCK`] along the head, each with a
    /// scale in f16: value = integer * scale. A row, that is one head of one token, has
    /// its integers first, four to a word, then its scales, two to a word.
    Q8,
    /// As [`Self::Q8`] with 4-bit integers, eight to a word: value = (integer - 8) * scale.
    Q4,
}

impl Element {
    /// All element types.
    pub const ALL: [Self; 5] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4];

    /// The element types that are no integers with scales: those of queries and outputs.
    pub const FLOATS: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// Bits of one element, scales not counted.
    pub fn bits(self) -> u64 {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::Q8 => 8,
            Self::Q4 => 4,
        }
    }

    /// Whether it has integers with scales.
    pub fn is_quantised(self) -> bool {
        matches!(self, Self::Q8 | Self::Q4)
    }

    /// Name in kernel variants.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Elements that a stored row of `dim` elements takes up: the next token of a dense tensor is this
    /// many elements away. Of floats it is `dim`; quantised rows have room for their scales too.
    ///
    /// ```
    /// use sunfleck::attention::Element;
    ///
    /// assert_eq!(Element::F16.row_elements(64), 64);
    /// // 16 words of four integers and one word of two scales.
    /// assert_eq!(Element::Q8.row_elements(64), 17 * 4);
    /// // 8 words of eight integers and one word of two scales.
    /// assert_eq!(Element::Q4.row_elements(64), 9 * 8);
    /// ```
    pub fn row_elements(self, dim: u32) -> u32 {
        if !self.is_quantised() {
            return dim;
        }
        let per_word = self.unit();
        let scales = dim.div_ceil(QUANT_BLOCK).div_ceil(2);
        (dim.div_ceil(per_word).saturating_add(scales)).saturating_mul(per_word)
    }

    /// Bytes of a stored row of `dim` elements, scales included.
    pub fn row_bytes(self, dim: u32) -> u64 {
        u64::from(self.row_elements(dim)) * self.bits() / 8
    }

    /// Elements of what kernels address: a quad of floats, a word of integers. Strides are multiples
    /// of it.
    pub(crate) fn unit(self) -> u32 {
        match self {
            Self::Q4 => 8,
            _ => 4,
        }
    }
}

/// How a tensor lies in its view: element type, and strides in elements, multiples of 4 (of 8 for
/// [`Element::Q4`]). The head dimension is always contiguous.
///
/// ```
/// use sunfleck::attention::{Element, TensorLayout};
///
/// // Keys and values of 8 heads of 128 that alternate by token: [key, (key or value), kv_head, dim].
/// let mut key = TensorLayout::token_major(Element::F16, 4096, 8, 128);
/// key.token_stride = 2 * 8 * 128;
/// assert_eq!((key.head_stride, key.element.bits()), (128, 16));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorLayout {
    /// Element type.
    pub element: Element,
    /// Elements from one sequence of the batch to the next; of paged keys and values, from one page of
    /// the pool to the next.
    pub batch_stride: u32,
    /// Elements from one token to the next.
    pub token_stride: u32,
    /// Elements from one head to the next.
    pub head_stride: u32,
}

impl TensorLayout {
    /// `[batch, token, head, dim]`, dense.
    pub fn token_major(element: Element, tokens: u32, heads: u32, dim: u32) -> Self {
        let dim = element.row_elements(dim);
        Self {
            element,
            batch_stride: tokens.saturating_mul(heads).saturating_mul(dim),
            token_stride: heads.saturating_mul(dim),
            head_stride: dim,
        }
    }

    /// `[batch, head, token, dim]`, dense.
    pub fn head_major(element: Element, tokens: u32, heads: u32, dim: u32) -> Self {
        let dim = element.row_elements(dim);
        Self {
            element,
            batch_stride: tokens.saturating_mul(heads).saturating_mul(dim),
            token_stride: dim,
            head_stride: tokens.saturating_mul(dim),
        }
    }

    /// Bytes from the first element to one past the last, a multiple of 4.
    pub(crate) fn extent(&self, batch: u32, tokens: u32, heads: u32, dim: u32) -> u64 {
        let last = |count: u32, stride: u32| u64::from(count.saturating_sub(1)) * u64::from(stride);
        // Saturating: strides and counts at their limits pass u64, and no view is that large.
        last(batch, self.batch_stride)
            .saturating_add(last(tokens, self.token_stride))
            .saturating_add(last(heads, self.head_stride))
            .saturating_add(u64::from(self.element.row_elements(dim)))
            .saturating_mul(self.element.bits())
            / 8
    }

    /// A stride as kernels count it.
    pub(crate) fn units(&self, stride: u32) -> u32 {
        stride / self.element.unit()
    }
}

/// Keys and values in pages (Kwon et al. 2023, PagedAttention): the pool's pages lie in the views of K and
/// V, and a table in GPU memory names the page of each run of `page_tokens` tokens of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// Tokens of a page: a power of 2 from 16 to 256.
    pub page_tokens: u32,
    /// Pages in the views of K and V. Entries of the table are cut to them.
    pub pool_pages: u32,
    /// Entries of one sequence in the table `[sequence, table_stride]`.
    pub table_stride: u32,
    /// Pages of each sequence that are left out: another call attends to them, as to a shared prefix. The
    /// lengths of the call count their tokens, and positions do not change.
    pub first_page: u32,
    /// Row of the table of sequence 0.
    pub first_sequence: u32,
}
