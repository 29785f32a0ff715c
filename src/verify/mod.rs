//! Which drafted tokens are kept.
//!
//! # Overview
//! | step | gives | what happens |
//! |---|---|---|
//! | fill in a [`VerifyProblem`] | | sizes, storage of logits, what requests may use |
//! | [`Gpu::plan_verify`] | [`VerifyPlan`] | sizes and limits are checked |
//! | [`VerifyPlan::prepare`] | [`PreparedVerify`] | the kernels are compiled, once a device |
//! | [`PreparedVerify::bind`] | [`Verify`] | buffers of the caller |
//! | [`Verify::set_request`] | | rule, seed and sampling options of one request of the batch |
//! | [`Verify::encode`] | | records into the caller's pass; nothing is allocated, submitted or waited for |
//!
//! Decisions are made on the GPU. The [`Verdict`] is one small buffer that the host reads when it likes, and
//! [`cache::Commit`](crate::cache::Commit) reads there too. [`GreedyVerifier`] is the short way for one
//! request at temperature 0. The rules ([`Rule`]) and [`Sampling`] options are those of
//! [`reference::verify`](crate::reference::verify), where each is also written to be read, and proven.
//!
//! [`Gpu::plan_verify`]: crate::gpu::Gpu::plan_verify
//!
//! # Example
//! A drafter proposes tokens 1 and 2 as alternatives, and the target decides by sampling.
//!
//! ```
//! use sunfleck::tree::{DraftTree, DrawKind};
//! use sunfleck::verify::{Rule, Sampling, Verdict, VerifyIo, VerifyProblem, VerifyRequest};
//! use sunfleck::{gpu::Gpu, wgpu};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let instance = wgpu::Instance::default();
//! let adapter = instance.request_adapter(&Default::default()).await?;
//! let (device, queue) = adapter.request_device(&Default::default()).await?;
//! let gpu = Gpu::new(&device, &queue);
//!
//! let (max_nodes, vocabulary) = (4, 5);
//! let problem = VerifyProblem::new(1, max_nodes, vocabulary);
//! let tree = DraftTree::merge(0, &[[1], [2]], max_nodes as usize)?;
//! // What the model says after each of three nodes; the fourth is not in use.
//! let logits = [[-9.0f32, 3.0, 3.0, 0.0, 0.0], [0.0; 5], [0.0; 5], [0.0; 5]];
//!
//! let logits = gpu.storage_with("logits", logits.as_flattened())?; // [batch, node, vocabulary]
//! let blob = gpu.storage_with("tree", &tree.blob(max_nodes as usize)?)?;
//! let lengths = gpu.storage_with("lengths", &[[3u32, 17, 0, 0]])?; // the root is at position 17
//! let verify = gpu.plan_verify(&problem)?.prepare().await?.bind(&VerifyIo {
//!     logits: (&logits).into(),
//!     draft: None,
//!     tree: (&blob).into(),
//!     lengths: (&lengths).into(),
//!     masks: None,
//! })?;
//! let mut request = VerifyRequest::new(Rule::Rejection, DrawKind::TopK, 42);
//! request.sampling = Sampling { temperature: 0.7, ..Sampling::default() };
//! verify.set_request(0, &request)?;
//!
//! let mut encoder = device.create_command_encoder(&Default::default());
//! {
//!     let mut pass = encoder.begin_compute_pass(&Default::default());
//!     verify.encode(&mut pass);
//!     verify.encode_finalise(&mut pass);
//! }
//! queue.submit([encoder.finish()]);
//!
//! let verdict = Verdict::from_words(&gpu.read_buffer(verify.outcome()).await?, max_nodes)?;
//! assert_eq!(verdict.path.len(), verdict.tokens.len());
//! let moved: Vec<u32> = gpu.read_buffer(&lengths).await?;
//! assert_eq!(moved[1], 17 + verdict.tokens.len() as u32);
//! # Ok(())
//! # }
//! # pollster::block_on(example()).unwrap();
//! ```

mod advance;
mod call;
mod error;
mod greedy;
mod kernels;
mod outcome;
mod part;
mod plan;
mod problem;
mod request;
mod rule;
mod sampling;
mod top;
mod verdict;
pub mod walkthrough;
mod waves;
mod windows;

pub use advance::{Advance, RingError, RingTokens, TokenRing};
pub use call::{Verify, VerifyIo};
pub use error::VerifyError;
pub use greedy::GreedyVerifier;
pub use outcome::{Outcome, OutcomeError};
pub use plan::{PreparedVerify, VerifyPlan};
pub use problem::{MAX_VOCABULARY, VerifyProblem};
pub use request::VerifyRequest;
pub use rule::{LossyTypical, Rule, RuleError};
pub use sampling::{Sampling, SamplingError};
pub use top::MAX_TOP_LOG_PROBABILITIES;
pub use verdict::{TopToken, Verdict};

// The element type of logits is that of any tensor.
#[doc(inline)]
pub use crate::attention::Element;

/// Every variant of the verification kernels: see [`crate::variants`].
pub(crate) fn variants(capabilities: &crate::gpu::Capabilities) -> Vec<crate::gpu::Kernel> {
    let mut kernels = vec![
        greedy::kernel(64),
        greedy::kernel(1024),
        greedy::check_kernel(),
        greedy::finish_kernel(),
    ];
    kernels.extend(kernels::variants(capabilities.class));
    kernels
}
