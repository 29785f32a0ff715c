//! Verification of draft trees on the page's buffers.

use serde_json::json;
use sunfleck::{
    attention::Element,
    tree::DrawKind,
    verify::{
        self, PreparedVerify, Rule, Sampling, Verdict, VerifyIo, VerifyProblem, VerifyRequest,
    },
};
use wasm_bindgen::prelude::*;

use crate::{
    adopt,
    device::Device,
    error::{Code, fail},
    json::Fields,
    options,
    tree::DRAWS,
};

/// A compiled plan.
#[wasm_bindgen]
pub struct Verify {
    prepared: PreparedVerify,
    problem: VerifyProblem,
}

#[wasm_bindgen]
impl Verify {
    /// Plans and compiles the problem that `problem` describes in JSON; the TypeScript type `VerifyProblem`
    /// lists its fields.
    pub async fn prepare(device: &Device, problem: String) -> Result<Verify, JsValue> {
        let mut fields = Fields::parse("the verification problem", &problem)?;
        let batch = fields.u32("batch")?.unwrap_or(1);
        let nodes = fields.needed_u32("maxNodes")?;
        let mut problem = VerifyProblem::new(batch, nodes, fields.needed_u32("vocabulary")?);
        problem.tree_stride = fields.u32("treeStride")?.unwrap_or(nodes);
        let elements = [
            ("f32", Element::F32),
            ("f16", Element::F16),
            ("bf16", Element::Bf16),
        ];
        problem.element = fields
            .choice("logitsType", &elements)?
            .unwrap_or(Element::F32);
        problem.row_stride = fields.u32("rowStride")?.unwrap_or(problem.vocabulary);
        problem.draft_rows = fields.u32("draftRows")?.unwrap_or(0);
        problem.penalties = fields.bool("penalties")?;
        problem.grammar = fields.bool("grammar")?;
        fields.finish()?;
        let wrong = |error| fail(Code::Verify, error);
        let plan = device.gpu.plan_verify(&problem).map_err(wrong)?;
        Ok(Self {
            prepared: plan.prepare().await.map_err(wrong)?,
            problem,
        })
    }

    /// Binds the buffers of `io`, each a `GPUBuffer` or `{ buffer, offset, size }`.
    pub fn bind(&self, device: &Device, io: &JsValue) -> Result<VerifyCall, JsValue> {
        let needed = |name: &str| device.view(name, &adopt::property(io, name));
        let optional = |name: &str| device.optional_view(name, &adopt::property(io, name));
        let (logits, tree, lengths) = (needed("logits")?, needed("tree")?, needed("lengths")?);
        let (draft, masks) = (optional("draft")?, optional("masks")?);
        let io = VerifyIo {
            logits: logits.view(),
            draft: draft.as_ref().map(|view| view.view()),
            tree: tree.view(),
            lengths: lengths.view(),
            masks: masks.as_ref().map(|view| view.view()),
        };
        match self.prepared.bind(&io) {
            Ok(call) => Ok(VerifyCall {
                call,
                problem: self.problem,
            }),
            Err(error) => Err(fail(Code::Verify, error)),
        }
    }
}

/// Verification bound to its buffers.
#[wasm_bindgen]
pub struct VerifyCall {
    call: verify::Verify,
    problem: VerifyProblem,
}

#[wasm_bindgen]
impl VerifyCall {
    /// Says how a request is verified, in JSON: `rule` and its numbers, `draw`, `seed`, the fields of sampling,
    /// `drafting` (those of the drafter) and `grammar`.
    #[wasm_bindgen(js_name = setRequest)]
    pub fn set_request(&self, index: u32, request: String) -> Result<(), JsValue> {
        let mut fields = Fields::parse("the request", &request)?;
        let rule = options::rule(&mut fields)?;
        let draw = fields.choice("draw", &DRAWS)?.unwrap_or(DrawKind::TopK);
        let seed = fields.u64("seed")?.unwrap_or(0);
        let (sampling, is_warm) = options::sampling(&mut fields)?;
        let rule = rule.unwrap_or(match is_warm {
            true => Rule::Rejection,
            false => Rule::Greedy,
        });
        let mut request = VerifyRequest::new(rule, draw, seed);
        request.sampling = sampling;
        request.grammar = fields.bool("grammar")?;
        request.drafting = match fields.take("drafting") {
            None => Sampling::default(),
            Some(drafting) => {
                let mut fields = Fields::parse("`drafting`", &drafting.to_string())?;
                let (drafting, _) = options::sampling(&mut fields)?;
                fields.finish()?;
                drafting
            }
        };
        fields.finish()?;
        (self.call.set_request(index, &request)).map_err(|error| fail(Code::Verify, error))
    }

    /// Records the verification into `encoder`, a `GPUCommandEncoder` of the page, and where `finalise` the end of
    /// the step: lengths move on by what was kept.
    pub fn encode(
        &self,
        device: &Device,
        encoder: &JsValue,
        finalise: bool,
    ) -> Result<(), JsValue> {
        let mut encoder = device.encoder(encoder)?;
        let mut pass = encoder.begin_compute_pass(&Default::default());
        self.call.encode(&mut pass);
        if finalise {
            self.call.encode_finalise(&mut pass);
        }
        Ok(())
    }

    /// Reads what was decided, one object a request, as JSON: submits a copy and waits.
    pub async fn read(&self, device: &Device) -> Result<String, JsValue> {
        let wrong = |error: &dyn std::fmt::Display| fail(Code::Verify, error);
        let words: Vec<u32> = (device.gpu.read_buffer(self.call.outcome()).await)
            .map_err(|error| fail(Code::Gpu, error))?;
        let nodes = self.problem.max_nodes;
        let verdicts: Result<Vec<_>, JsValue> = words
            .chunks(Verdict::words(nodes))
            .map(|words| {
                let verdict = Verdict::from_words(words, nodes).map_err(|error| wrong(&error))?;
                Ok(json!({
                    "path": verdict.path,
                    "tokens": verdict.tokens,
                    "rawLogProbabilities": verdict.raw_log_probabilities,
                    "logProbabilities": verdict.log_probabilities,
                }))
            })
            .collect();
        Ok(serde_json::Value::from(verdicts?).to_string())
    }
}
