//! The end of a step with no host in between: lengths, a ring of tokens, the next root and dispatch sizes.

use wgpu::{Buffer, ComputePass};

use super::{OutcomeError, Verify, VerifyError, VerifyIo, VerifyProblem};
use crate::gpu::{Binding, BufferView, Gpu, Kernel, shader, shared_struct};
use crate::ops::{Dispatch, DispatchSizes};
use crate::tree;

const LANES: u32 = 64;
/// Words of a ring before its tokens.
const HEADER: usize = 4;

shared_struct! {
    /// Parameters shared with `shaders/verify/advance.wgsl`.
    pub(crate) struct AdvanceParams {
        batch: u32,
        max_nodes: u32,
        outcome_words: u32,
        tree_words: u32,
        ring_tokens: u32,
        ring_words: u32,
        next_rows: u32,
        sizes: u32,
    }
}

pub(super) fn kernel() -> Kernel {
    use Binding::{Read, Uniform, Write};
    let bindings = [Uniform, Read, Write, Write, Write, Read, Write];
    Kernel::new(
        "verify/advance",
        [LANES, 1, 1],
        AdvanceParams::LAYOUT,
        &bindings,
    )
    .source(shader!("verify/advance.wgsl"))
    .workgroup_bytes(4)
}

/// What follows a step on the GPU, in place of [`Verify::encode_finalise`] and of the host: each request's length
/// moves on, and with it the position that random numbers are keyed by; the kept tokens go into a ring that the host
/// reads when it likes; the last of them becomes the root of the request's next tree; and dispatches of the next step
/// get their sizes. So several steps can be recorded into one submission.
///
/// A request whose outcome has an error flag stops there: its length, ring and root stay, in later steps too, and
/// [`TokenRing::read`] gives the error.
#[derive(Clone, Debug)]
pub struct Advance {
    dispatch: Dispatch,
    ring: Buffer,
    problem: VerifyProblem,
    ring_tokens: u32,
}

impl Verify {
    /// Compiles and binds. `io` is what the verification was bound to; `ring_tokens`, a power of two of at least
    /// `max_nodes`, is the room for tokens of a request that the host has not read; `next_rows` the most rows
    /// of a request in a step; `sizes` the dispatches of a step that are sized on the GPU.
    ///
    /// # Errors
    /// [`VerifyError::Size`] for a ring that is none, and those of the device.
    pub async fn advance(
        &self,
        io: &VerifyIo<'_>,
        ring_tokens: u32,
        next_rows: u32,
        sizes: &DispatchSizes,
    ) -> Result<Advance, VerifyError> {
        let (gpu, problem) = (self.gpu(), self.problem());
        if !ring_tokens.is_power_of_two()
            || ring_tokens < problem.max_nodes
            || ring_tokens > 1 << 24
        {
            return Err(VerifyError::Size {
                name: "ring_tokens",
                needed: "a power of two from max_nodes to 2^24",
                given: ring_tokens,
            });
        }
        super::call::check_io(problem, io)?;
        let ring_words = HEADER as u32 + ring_tokens;
        let bytes = u64::from(problem.batch) * u64::from(ring_words) * 4;
        let ring = gpu.storage("verify ring", bytes)?;
        let mut rules: Vec<[u32; 2]> = (sizes.rules().iter().flatten())
            .map(|rule| rule.words())
            .collect();
        if rules.is_empty() {
            rules.push([0; 2]); // a binding is never empty
        }
        let rules = gpu.storage_with("dispatch rules", rules.as_flattened())?;
        let params = AdvanceParams {
            batch: problem.batch,
            max_nodes: problem.max_nodes,
            outcome_words: problem.outcome_words() as u32,
            tree_words: tree::blob_words(problem.tree_stride as usize) as u32,
            ring_tokens,
            ring_words,
            next_rows,
            sizes: sizes.rules().len() as u32,
        };
        let uniform = gpu.uniform("verify advance", &params);
        let pipeline = gpu.pipeline(&kernel()).await?;
        let arguments = gpu.bind(
            &pipeline,
            &[
                ("params", BufferView::whole(&uniform)),
                ("outcome", BufferView::whole(self.outcome())),
                ("lengths", io.lengths),
                ("tree", io.tree),
                ("ring", BufferView::whole(&ring)),
                ("rules", BufferView::whole(&rules)),
                ("sizes", BufferView::whole(sizes.buffer())),
            ],
        )?;
        Ok(Advance {
            dispatch: Dispatch::new(pipeline, arguments),
            ring,
            problem: *problem,
            ring_tokens,
        })
    }
}

impl Advance {
    /// Records the end of a step, after the verification and everything that needs the old lengths.
    pub fn encode(&self, pass: &mut ComputePass<'_>) {
        self.dispatch.encode(pass, [1, 1, 1]);
    }

    /// The rings, `[batch]` of [`Self::ring_words`].
    pub fn ring(&self) -> &Buffer {
        &self.ring
    }

    /// Words of one request's ring.
    pub fn ring_words(&self) -> usize {
        HEADER + self.ring_tokens as usize
    }

    /// A reader that has read nothing yet.
    pub fn reader(&self) -> TokenRing {
        TokenRing {
            read: vec![0; self.problem.batch as usize],
            ring_tokens: self.ring_tokens as usize,
        }
    }

    /// Reads the rings back, and gives what is new in them: see [`TokenRing::read`]. Waits for the GPU.
    ///
    /// # Errors
    /// [`VerifyError::Gpu`].
    pub async fn read(
        &self,
        gpu: &Gpu,
        reader: &mut TokenRing,
    ) -> Result<Vec<Result<RingTokens, RingError>>, VerifyError> {
        Ok(reader.read(&gpu.read_buffer::<u32>(&self.ring).await?))
    }
}

/// What the host has read of the rings of a batch.
#[derive(Clone, Debug)]
pub struct TokenRing {
    read: Vec<u32>, // tokens that were ever read of a request; wraps
    ring_tokens: usize,
}

/// What is new in a request's ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingTokens {
    /// Tokens since the last time.
    pub tokens: Vec<u32>,
    /// Steps since the beginning.
    pub steps: u32,
    /// Position of the last token.
    pub position: u32,
}

/// Why a ring gives no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// The request is over. Its tokens up to here are read first.
    #[error("a step could not be verified, and the request stopped there: {0}")]
    Outcome(#[from] OutcomeError),
    /// The GPU ran too far ahead.
    #[error(
        "{lost} tokens were overwritten before they were read; the ring has room for {ring_tokens}: read it more \
         often, or make it larger"
    )]
    Overwritten {
        /// Tokens that are gone.
        lost: u32,
        /// Tokens that a ring holds.
        ring_tokens: u32,
    },
    /// The buffer is too short.
    #[error("the rings have {words} words, but the batch needs {needed}")]
    Malformed {
        /// Words given.
        words: usize,
        /// Words of all rings.
        needed: usize,
    },
}

impl TokenRing {
    /// What is new in the words of the rings, `[batch]`. An error flag is given once all tokens before it were.
    pub fn read(&mut self, words: &[u32]) -> Vec<Result<RingTokens, RingError>> {
        let (own, needed) = (
            HEADER + self.ring_tokens,
            (HEADER + self.ring_tokens) * self.read.len(),
        );
        if words.len() < needed {
            let error = RingError::Malformed {
                words: words.len(),
                needed,
            };
            return vec![Err(error); self.read.len()];
        }
        (self.read.iter_mut().zip(words.chunks_exact(own)))
            .map(|(read, ring)| {
                let (written, flags) = (ring[0], ring[2]);
                let new = written.wrapping_sub(*read);
                let start = *read as usize;
                *read = written;
                let room = self.ring_tokens as u32;
                if new > room {
                    return Err(RingError::Overwritten {
                        lost: new - room,
                        ring_tokens: room,
                    });
                }
                if new == 0 {
                    OutcomeError::of_flags(flags)?;
                }
                let places = (0..new as usize).map(|i| start.wrapping_add(i) % self.ring_tokens);
                Ok(RingTokens {
                    tokens: places.map(|place| ring[HEADER + place]).collect(),
                    steps: ring[1],
                    position: ring[3],
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(batch: usize) -> TokenRing {
        TokenRing {
            read: vec![0; batch],
            ring_tokens: 4,
        }
    }

    #[test]
    fn tokens_are_read_once_and_in_order_around_the_end() {
        let mut reader = reader(2);
        let first = [3, 2, 0, 9, 10, 11, 12, 0, 0, 0, 0, 5, 0, 0, 0, 0];
        let got = reader.read(&first);
        assert_eq!(got[0].as_ref().unwrap().tokens, [10, 11, 12]);
        assert_eq!(got[0].as_ref().unwrap().position, 9);
        assert_eq!(got[1].as_ref().unwrap().tokens, [0u32; 0]);
        let second = [6, 4, 0, 12, 14, 15, 12, 13, 1, 1, 0, 6, 70, 0, 0, 0];
        let got = reader.read(&second);
        assert_eq!(got[0].as_ref().unwrap().tokens, [13, 14, 15]);
        assert_eq!(got[1].as_ref().unwrap().tokens, [70]);
        assert_eq!(reader.read(&second)[0].as_ref().unwrap().tokens, [0u32; 0]);
    }

    #[test]
    fn what_was_overwritten_is_an_error_and_then_it_goes_on() {
        let mut reader = reader(1);
        let got = reader.read(&[7, 3, 0, 7, 1, 2, 3, 4]).remove(0);
        let lost = RingError::Overwritten {
            lost: 3,
            ring_tokens: 4,
        };
        assert_eq!(got, Err(lost));
        let got = reader.read(&[8, 4, 0, 8, 1, 2, 3, 9]).remove(0);
        assert_eq!(got.unwrap().tokens, [9]);
    }

    #[test]
    fn a_flag_comes_after_the_tokens_before_it() {
        let mut reader = reader(1);
        let words = [1, 1, 2, 1, 5, 0, 0, 0];
        assert_eq!(reader.read(&words).remove(0).unwrap().tokens, [5]);
        let over = Err(RingError::Outcome(OutcomeError::BadTree));
        assert_eq!(reader.read(&words).remove(0), over);
        assert!(matches!(
            reader.read(&words[..5]).remove(0),
            Err(RingError::Malformed { .. })
        ));
    }

    #[test]
    fn counts_may_pass_the_end_of_u32() {
        let mut reader = reader(1);
        reader.read = vec![u32::MAX];
        let got = reader.read(&[1, 0, 0, 0, 21, 0, 0, 20]).remove(0);
        assert_eq!(got.unwrap().tokens, [20, 21]);
    }
}
