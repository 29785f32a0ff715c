//! A session: prompt, then draft, verify and commit until the text ends.
//!
//! Each step is one submission and one small read-back: the host writes a draft tree, the GPU
//! computes the target model for all its nodes, decides which of them are kept and what follows, keeps them and
//! moves the length on.
//!
//! | item | what it is |
//! |---|---|
//! | [`Session`] | a decoder, a drafter and the tokens of one sequence |
//! | [`TokenChoice`] | rule of acceptance, temperature and the other sampling options, seed |
//! | [`Grammar`], `TextGrammar` | what an answer may be made of: regular expressions, JSON schemas, or your own |
//! | [`Batch`] | several answers at once, one step for all of them |
//! | [`TokenStream`] | the tokens of an answer, with log-probabilities where they are asked for |
//! | [`TextStream`], [`StopStrings`] | its text, up to a stop string |
//! | [`Session::save`], [`Session::restore`] | a session as bytes, to go on later |
//! | [`CancelHandle`] | ends an answer from elsewhere |

mod batch;
mod cancel;
mod choice;
mod context;
mod error;
mod given;
mod grammar;
mod measure;
mod restrict;
mod sampler;
mod saved;
mod session;
mod statistics;
mod step;
mod stop;
mod stream;
mod text;

pub use batch::{AnswerId, AnswerPart, Batch};
pub use cancel::CancelHandle;
pub use choice::{ChoiceError, DraftChoice, TokenChoice};
pub use error::GenerateError;
#[cfg(feature = "grammar")]
pub use grammar::TextGrammar;
pub use grammar::{Grammar, GrammarError, GrammarState};
pub use saved::SavedSessionError;
pub use session::Session;
pub use statistics::Statistics;
pub use step::{LogProbabilities, Step};
pub use stop::{StopStep, StopStrings};
pub use stream::{Finish, GenerateOptions, Origin, Token, TokenStream};
pub use text::{TextPiece, TextStream};
