//! Attention on the page's buffers.

use sunfleck::attention::{
    self, AttentionIo, AttentionProblem, AttentionWorkspace, Element, Mask, PreparedAttention,
    TensorLayout,
};
use wasm_bindgen::prelude::*;

use crate::{
    adopt,
    device::Device,
    error::{Code, fail},
    json::Fields,
};

const ELEMENTS: [(&str, Element); 5] = [
    ("f32", Element::F32),
    ("f16", Element::F16),
    ("bf16", Element::Bf16),
    ("q8", Element::Q8),
    ("q4", Element::Q4),
];

/// A compiled plan with its workspace.
#[wasm_bindgen]
pub struct Attention {
    prepared: PreparedAttention,
    workspace: AttentionWorkspace,
}

#[wasm_bindgen]
impl Attention {
    /// Plans and compiles the problem that `problem` describes in JSON; the TypeScript type
    /// `AttentionProblem` lists its fields.
    pub async fn prepare(device: &Device, problem: String) -> Result<Attention, JsValue> {
        let problem = read_problem(&problem)?;
        let wrong = |error| fail(Code::Attention, error);
        let plan = device.gpu.plan_attention(&problem).map_err(wrong)?;
        let prepared = plan.prepare().await.map_err(wrong)?;
        let workspace = prepared.workspace().map_err(wrong)?;
        Ok(Self {
            prepared,
            workspace,
        })
    }

    /// Chosen kernels, refused ones and why, bytes of workspace.
    pub fn explain(&self) -> String {
        self.prepared.plan().explain()
    }

    /// Binds the buffers of `io`, each a `GPUBuffer` or `{ buffer, offset, size }`.
    pub fn bind(&self, device: &Device, io: &JsValue) -> Result<AttentionCall, JsValue> {
        let needed = |name: &str| device.view(name, &adopt::property(io, name));
        let optional = |name: &str| device.optional_view(name, &adopt::property(io, name));
        let (query, key, value) = (needed("query")?, needed("key")?, needed("value")?);
        let (output, lengths) = (needed("output")?, needed("lengths")?);
        let (lse, bias, tree) = (optional("lse")?, optional("bias")?, optional("tree")?);
        let io = AttentionIo {
            query: query.view(),
            key: key.view(),
            value: value.view(),
            output: output.view(),
            lengths: lengths.view(),
            lse: lse.as_ref().map(|view| view.view()),
            bias: bias.as_ref().map(|view| view.view()),
            tree: tree.as_ref().map(|view| view.view()),
            pages: None,
        };
        self.prepared
            .bind(&self.workspace, &io)
            .map(AttentionCall)
            .map_err(|error| fail(Code::Attention, error))
    }
}

/// Attention bound to its buffers.
#[wasm_bindgen]
pub struct AttentionCall(attention::Attention);

#[wasm_bindgen]
impl AttentionCall {
    /// Records the call into `encoder`, a `GPUCommandEncoder` of the page, as a compute pass of its own.
    pub fn encode(
        &self,
        device: &Device,
        encoder: &JsValue,
        queries: u32,
        keys: u32,
    ) -> Result<(), JsValue> {
        let mut encoder = device.encoder(encoder)?;
        self.0.encode(
            &mut encoder.begin_compute_pass(&Default::default()),
            queries,
            keys,
        );
        Ok(())
    }
}

fn read_problem(text: &str) -> Result<AttentionProblem, JsValue> {
    let mut fields = Fields::parse("the attention problem", text)?;
    let mut problem = AttentionProblem::new(
        fields.needed_u32("queryHeads")?,
        fields.needed_u32("kvHeads")?,
        fields.needed_u32("headDim")?,
        fields.needed_u32("maxQueries")?,
        fields.needed_u32("maxKeys")?,
    );
    problem.batch = fields.u32("batch")?.unwrap_or(1);
    problem.value_dim = fields.u32("valueDim")?.unwrap_or(problem.head_dim);
    let query = fields
        .choice("queryType", &ELEMENTS)?
        .unwrap_or(Element::F32);
    let kv = fields.choice("kvType", &ELEMENTS)?.unwrap_or(Element::F32);
    let output = fields
        .choice("outputType", &ELEMENTS)?
        .unwrap_or(Element::F32);
    let (queries, keys) = (problem.max_queries, problem.max_keys);
    let (heads, kv_heads) = (problem.query_heads, problem.kv_heads);
    let (dim, value_dim) = (problem.head_dim, problem.value_dim);
    problem.query = TensorLayout::token_major(query, queries, heads, dim);
    problem.key = TensorLayout::token_major(kv, keys, kv_heads, dim);
    problem.value = TensorLayout::token_major(kv, keys, kv_heads, value_dim);
    problem.output = TensorLayout::token_major(output, queries, heads, value_dim);
    let max_nodes = fields.u32("maxNodes")?.unwrap_or(queries);
    let masks = [
        ("causal", Mask::Causal),
        ("none", Mask::None),
        ("tree", Mask::Tree { max_nodes }),
    ];
    problem.mask = fields.choice("mask", &masks)?.unwrap_or(Mask::Causal);
    problem.window = fields.u32("window")?;
    problem.scale = fields.f32("scale")?.unwrap_or(problem.scale);
    problem.softcap = fields.f32("softcap")?;
    problem.alibi_slopes = fields.f32s("alibiSlopes")?;
    problem.sinks = fields.f32s("sinks")?;
    problem.lse = fields.bool("lse")?;
    problem.invariant = fields.bool("invariant")?;
    if fields.bool("bias")? {
        problem.bias = Some(attention::BiasLayout {
            batch_stride: heads.saturating_mul(queries).saturating_mul(keys),
            head_stride: queries.saturating_mul(keys),
            query_stride: keys,
        });
    }
    fields.finish()?;
    Ok(problem)
}
