//! sunfleck's attention and verification on tensors of [burn](burn) 0.22, whose device and queue they share: no tensor
//! leaves the GPU, and none is copied but where WebGPU asks for it.
//!
//! burn takes its tensors from pages of memory, so that several lie in one buffer of wgpu. Then
//! - a tensor is a range of a buffer, bound where it is; one that begins between the places where bindings may begin is
//!   copied into a buffer of its own;
//! - what is written can't lie in a buffer that the same kernel reads: WebGPU refuses that, even of ranges that are apart.
//!   There the kernels write into a buffer of their own, and a copy follows.
//!
//! burn's feature `fusion` is off: with it, a tensor may have no memory yet.

use std::any::Any;

use burn::{
    backend::Wgpu,
    cubecl::wgpu::{AutoCompiler, WgpuServer},
    tensor::{DType, Tensor},
};
use sunfleck::{
    attention::{
        AttentionError, AttentionIo, AttentionProblem, Element, Mask, TensorLayout, lengths,
    },
    gpu::{BufferView, Gpu, GpuError},
    tree::{DraftTree, TreeError},
    verify::{OutcomeError, Verdict, VerifyError, VerifyIo, VerifyProblem},
    wgpu::{Buffer, CommandEncoder},
};

/// An error of attention or verification on tensors of burn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that is not a float tensor on burn's wgpu backend.
    #[error(
        "the tensor is not on burn's wgpu backend: {0}; create it on a device of `Device::wgpu_options()`"
    )]
    Backend(String),
    /// burn could not give the tensor's memory.
    #[error("burn could not give the tensor's memory: {0}")]
    Memory(String),
    /// A type, shape or stride that kernels do not read.
    #[error("a tensor of {dtype:?} with shape {shape:?} and strides {strides:?} {problem}")]
    Tensor {
        /// The element type.
        dtype: DType,
        /// The shape.
        shape: Vec<usize>,
        /// The strides in elements.
        strides: Vec<usize>,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// Of attention.
    #[error(transparent)]
    Attention(#[from] AttentionError),
    /// Of verification.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// Of the draft tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// What verification found in the outcome.
    #[error(transparent)]
    Outcome(#[from] OutcomeError),
    /// Of the device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

/// A float tensor of burn as a range of a buffer of wgpu. The range stays the tensor's as long as this lives.
pub struct TensorBuffer {
    buffer: Buffer,
    offset: u64,
    bytes: u64,
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<usize>, // in elements
    _held: Box<dyn Any + Send>,
}

impl TensorBuffer {
    /// The memory of `tensor`. What burn has still to do for it is submitted before this returns, so that what is submitted
    /// later to the shared queue sees it.
    ///
    /// # Errors
    /// [`Error::Backend`], [`Error::Memory`].
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Result<Self, Error> {
        let tensor = (tensor.clone().try_into_primitive::<Wgpu>())
            .map_err(|error| Error::Backend(format!("{error:?}")))?;
        let memory = |error| Error::Memory(format!("{error:?}"));
        let client = tensor.client;
        let resource = client
            .get_resource::<WgpuServer<AutoCompiler>>(tensor.handle)
            .map_err(memory)?;
        client.flush().map_err(memory)?;
        let range = resource.resource().clone();
        Ok(Self {
            buffer: range.buffer,
            offset: range.offset,
            bytes: range.size,
            dtype: tensor.dtype,
            shape: tensor.meta.shape().to_vec(),
            strides: tensor.meta.strides().to_vec(),
            _held: Box::new(resource),
        })
    }

    /// The buffer that the tensor lies in, perhaps with others.
    pub fn buffer(&self) -> &Buffer {
        &self.buffer
    }

    /// The tensor's bytes in it.
    pub fn view(&self) -> BufferView<'_> {
        BufferView::range(&self.buffer, self.offset, self.bytes.next_multiple_of(4))
    }

    fn refuse(&self, problem: &'static str) -> Error {
        Error::Tensor {
            dtype: self.dtype,
            shape: self.shape.clone(),
            strides: self.strides.clone(),
            problem,
        }
    }

    fn element(&self) -> Result<Element, Error> {
        match self.dtype {
            DType::F32 => Ok(Element::F32),
            DType::F16 => Ok(Element::F16),
            DType::BF16 => Ok(Element::Bf16),
            _ => {
                Err(self.refuse("has a type that kernels do not read; cast it to f32, f16 or bf16"))
            }
        }
    }

    fn size(&self, axis: usize) -> Result<u32, Error> {
        u32::try_from(self.shape[axis]).map_err(|_| self.refuse("is too large"))
    }

    fn stride(&self, axis: usize) -> Result<u32, Error> {
        u32::try_from(self.strides[axis]).map_err(|_| self.refuse("is too large"))
    }

    /// The layout of a tensor `[token, head, dim]` in whatever strides burn has given it: permuted views need no copy.
    fn layout(&self) -> Result<TensorLayout, Error> {
        if self.strides[2] != 1 {
            return Err(self.refuse("has heads whose elements lie apart; permute other axes only"));
        }
        Ok(TensorLayout {
            element: self.element()?,
            batch_stride: 0,
            token_stride: self.stride(0)?,
            head_stride: self.stride(1)?,
        })
    }

    /// The tensor as an argument that is read: where it is, or a copy where no binding may begin there.
    fn argument<'a>(
        &'a self,
        gpu: &Gpu,
        encoder: &mut CommandEncoder,
        copy: &'a mut Option<Buffer>,
    ) -> Result<BufferView<'a>, Error> {
        let view = self.view();
        let alignment = gpu
            .capabilities()
            .limits
            .min_storage_buffer_offset_alignment;
        if view.offset.is_multiple_of(u64::from(alignment)) {
            return Ok(view);
        }
        if !view.offset.is_multiple_of(4) {
            return Err(self.refuse("begins between words and can't be copied; make it contiguous"));
        }
        let own = copy.insert(gpu.storage("copy of a tensor", view.size)?);
        encoder.copy_buffer_to_buffer(view.buffer, view.offset, own, 0, view.size);
        Ok(BufferView::whole(own))
    }
}

/// Causal attention of `query` `[query, query_head, dim]` over `key` `[key, kv_head, dim]` and `value`
/// `[key, kv_head, value_dim]`: the queries are the last of the tokens. Gives `[query, query_head, value_dim]` of f32, a
/// tensor of burn like every other.
///
/// # Errors
/// Those of the tensors, and of [`Gpu::plan_attention`].
pub async fn attention(
    gpu: &Gpu,
    query: &Tensor<3>,
    key: &Tensor<3>,
    value: &Tensor<3>,
) -> Result<Tensor<3>, Error> {
    let [q, k, v] = [
        TensorBuffer::of(query)?,
        TensorBuffer::of(key)?,
        TensorBuffer::of(value)?,
    ];
    let (queries, heads, dim) = (q.size(0)?, q.size(1)?, q.size(2)?);
    let (keys, kv_heads) = (k.size(0)?, k.size(1)?);
    if k.shape[..2] != v.shape[..2] || k.shape[2] != q.shape[2] || keys < queries {
        return Err(k.refuse("does not fit the queries or the values"));
    }
    let result = Tensor::<3>::empty([q.shape[0], q.shape[1], v.shape[2]], &query.device());
    let out = TensorBuffer::of(&result)?;

    let mut problem = AttentionProblem::new(heads, kv_heads, dim, queries, keys);
    problem.value_dim = v.size(2)?;
    problem.mask = Mask::Causal;
    (problem.query, problem.key, problem.value) = (q.layout()?, k.layout()?, v.layout()?);
    problem.output = out.layout()?;

    let (device, queue) = (gpu.device(), gpu.queue());
    let mut encoder = device.create_command_encoder(&Default::default());
    let mut copies = [None, None, None];
    let [copy_q, copy_k, copy_v] = &mut copies;
    let query = q.argument(gpu, &mut encoder, copy_q)?;
    let key = k.argument(gpu, &mut encoder, copy_k)?;
    let value = v.argument(gpu, &mut encoder, copy_v)?;
    let shared = [query, key, value]
        .iter()
        .any(|view| view.buffer == out.buffer());
    let own = match shared {
        true => Some(gpu.storage("output", out.view().size)?),
        false => None,
    };
    let lengths = gpu.storage_with("lengths", lengths(&[(queries, keys)]).as_flattened())?;
    let attention = gpu.plan_attention(&problem)?.prepare().await?;
    let workspace = attention.workspace()?;
    let call = attention.bind(
        &workspace,
        &AttentionIo {
            query,
            key,
            value,
            output: own.as_ref().map_or(out.view(), BufferView::whole),
            lengths: (&lengths).into(),
            lse: None,
            bias: None,
            tree: None,
            pages: None,
        },
    )?;
    call.encode(
        &mut encoder.begin_compute_pass(&Default::default()),
        queries,
        keys,
    );
    if let Some(own) = &own {
        let to = out.view();
        encoder.copy_buffer_to_buffer(own, 0, to.buffer, to.offset, to.size);
    }
    queue.submit([encoder.finish()]);
    Ok(result)
}

/// Which drafted tokens of `tree` a model keeps whose `logits` `[node, vocabulary]` burn has computed, greedily, and the
/// model's own token behind them.
///
/// # Errors
/// Those of the tensor, and of [`Gpu::plan_verify`].
pub async fn verify(gpu: &Gpu, logits: &Tensor<2>, tree: &DraftTree) -> Result<Verdict, Error> {
    let rows = TensorBuffer::of(logits)?;
    let (nodes, vocabulary) = (rows.size(0)?, rows.size(1)?);
    if rows.strides[1] != 1 {
        return Err(rows.refuse("has rows whose elements lie apart; make it contiguous"));
    }
    if rows.shape[0] < tree.len() {
        return Err(rows.refuse("has fewer rows than the tree has nodes"));
    }
    let mut problem = VerifyProblem::new(1, nodes, vocabulary);
    problem.element = rows.element()?;
    problem.row_stride = rows.stride(0)?;
    let blob = gpu.storage_with("tree", &tree.blob(rows.shape[0])?)?;
    let lengths = gpu.storage_with("lengths", lengths(&[(nodes, nodes)]).as_flattened())?;
    let mut encoder = gpu.device().create_command_encoder(&Default::default());
    let mut copy = None;
    let logits = rows.argument(gpu, &mut encoder, &mut copy)?;
    let plan = gpu.plan_verify(&problem)?;
    let verify = plan.prepare().await?.bind(&VerifyIo {
        logits,
        draft: None,
        tree: (&blob).into(),
        lengths: (&lengths).into(),
        masks: None,
    })?;
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        verify.encode(&mut pass);
        verify.encode_finalise(&mut pass);
    }
    gpu.queue().submit([encoder.finish()]);
    let words = gpu.read_buffer(verify.outcome()).await?;
    Ok(problem.verdict(&words)?)
}
