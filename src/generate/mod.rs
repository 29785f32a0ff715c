//! A session: prompt, then draft, verify and commit until the text ends.
//!
//! Each step is one submission and one small read-back: the host writes a draft tree, the GPU
//! computes the target model for all its nodes, walks down the tree, keeps what was accepted and
//! moves the length on.

mod error;
mod session;
mod stream;

pub use error::GenerateError;
pub use session::{Session, Step};
pub use stream::{Finish, GenerateOptions, Origin, Statistics, Token, TokenStream};
