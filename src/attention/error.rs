//! Why an attention problem or call is refused.

use crate::gpu::GpuError;

/// An error of planning, preparing or binding attention.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttentionError {
    /// A size is zero.
    #[error("`{name}` is 0; every size of an attention problem must be at least 1")]
    Zero {
        /// The field.
        name: &'static str,
    },
    /// Query heads do not divide among the KV heads.
    #[error(
        "{query_heads} query heads can't share {kv_heads} KV heads; query heads must be a \
         multiple of KV heads"
    )]
    HeadGroups {
        /// Query heads given.
        query_heads: u32,
        /// KV heads given.
        kv_heads: u32,
    },
    /// A head size no kernel supports.
    #[error(
        "`{name}` is {dim}; it must be a multiple of 4 from 4 to 256 (pad the head with zeros)"
    )]
    HeadDim {
        /// The field.
        name: &'static str,
        /// Its value.
        dim: u32,
    },
    /// A stride that is not a whole number of what kernels load.
    #[error("a stride of `{name}` is {stride} elements; its strides must be multiples of {unit}")]
    Stride {
        /// The tensor.
        name: &'static str,
        /// The stride in elements.
        stride: u32,
        /// What it must be a multiple of.
        unit: u32,
    },
    /// Queries or outputs in a type that only keys and values have.
    #[error("`{name}` is {element}; only keys and values can be quantised: use f32, f16 or bf16")]
    Quantised {
        /// The tensor.
        name: &'static str,
        /// Its element type.
        element: &'static str,
    },
    /// A page size no kernel supports.
    #[error("pages have {page_tokens} tokens; it must be a power of 2 from 16 to 256")]
    PageTokens {
        /// Tokens of a page given.
        page_tokens: u32,
    },
    /// A page table too small for the keys.
    #[error(
        "{max_keys} keys in pages of {page_tokens} tokens need a page table of {needed} entries a \
         sequence, not {given}; raise `table_stride` or lower `max_keys`"
    )]
    PageTable {
        /// Keys of the problem.
        max_keys: u32,
        /// Tokens of a page.
        page_tokens: u32,
        /// Entries needed.
        needed: u32,
        /// `table_stride` given.
        given: u32,
    },
    /// A problem or prefix that a cascade does not compute.
    #[error("a cascade can't be made of this: {reason}; use `plan_attention`")]
    Cascade {
        /// What is not as it must be.
        reason: &'static str,
    },
    /// A page table, a draft tree and a bias at once.
    #[error(
        "a page table, a draft tree and a bias together take eight storage buffers, one more than \
         every device has to spare; put the tree into the bias (-inf hides a key) or use no pages"
    )]
    StorageBuffers,
    /// Rows of a tensor that is written share elements.
    #[error(
        "the strides of `{name}` make two of its rows share elements; every row is written, so \
         each needs a place of its own"
    )]
    Overlap {
        /// The tensor.
        name: &'static str,
    },
    /// A tensor too large for 32-bit addressing of quads.
    #[error("`{name}` spans {bytes} bytes, more than kernels can address; split the batch")]
    TooLarge {
        /// The tensor.
        name: &'static str,
        /// Its extent in bytes.
        bytes: u64,
    },
    /// The scale is not a finite number.
    #[error("the scale is {scale}; it must be finite (1/sqrt(head_dim) in most models)")]
    Scale {
        /// The scale given.
        scale: f32,
    },
    /// A ragged batch with fewer tokens than one of its sequences may have.
    #[error(
        "the ragged batch has {queries} queries and {keys} keys in all, but one sequence may have \
         {max_queries} and {max_keys}; lower max_queries and max_keys, or pad the tensors"
    )]
    RaggedTotals {
        /// Tokens in the query tensor.
        queries: u32,
        /// Tokens in the key tensor.
        keys: u32,
        /// Most queries of one sequence.
        max_queries: u32,
        /// Most keys of one sequence.
        max_keys: u32,
    },
    /// The softcap is not a positive number.
    #[error("the softcap is {softcap}; it must be a positive finite number, or None")]
    Softcap {
        /// The softcap given.
        softcap: f32,
    },
    /// A list with one value a query head has another length, or a value that is not finite.
    #[error(
        "`{name}` has {given} values; it must have one finite value for each of {needed} query heads"
    )]
    HeadList {
        /// The field.
        name: &'static str,
        /// Query heads.
        needed: u32,
        /// Values given.
        given: usize,
    },
    /// More query heads than can have values of their own.
    #[error(
        "`{name}` was given for {heads} query heads; kernels hold values for at most 256: split the heads over two calls"
    )]
    HeadValues {
        /// The field.
        name: &'static str,
        /// Query heads.
        heads: u32,
    },
    /// The tree blob has room for fewer nodes than there may be queries.
    #[error(
        "the tree mask has room for {max_nodes} nodes but the problem for {max_queries} queries; \
         build the blob with a stride of at least max_queries"
    )]
    TreeStride {
        /// Stride of the blob.
        max_nodes: u32,
        /// Queries of the problem.
        max_queries: u32,
    },
    /// An argument that the problem needs is missing, or one it has no use for was given.
    #[error("argument `{name}` {problem}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// A view is smaller than its tensor.
    #[error("view `{name}` has {given} bytes; the problem's shape and strides need {needed}")]
    ViewTooSmall {
        /// The argument.
        name: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes given.
        given: u64,
    },
    /// The device refused a kernel, buffer or view.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}
