//! Why a grammar is of no use.

/// An error of a grammar. Lines and columns are counted from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The regular expression has an error.
    #[error("the regular expression is wrong at line {line}, column {column}: {problem}")]
    Regex {
        /// Line of the error.
        line: usize,
        /// Its column.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// The JSON schema is no JSON.
    #[error("the JSON schema is no JSON: line {line}, column {column}: {problem}")]
    Json {
        /// Line of the error.
        line: usize,
        /// Its column.
        column: usize,
        /// What is wrong.
        problem: String,
    },
    /// The grammar is well-formed, but asks for what can't be checked token by token, or for nothing at all.
    #[error("the grammar can't be used: {problem}")]
    Unsupported {
        /// What it asks for.
        problem: String,
    },
    /// The model has no token that ends an answer.
    #[error(
        "the tokenizer has no token that ends an answer, so that none could end where its grammar does; \
         use a model with one"
    )]
    NoEndToken,
    /// The vocabulary has no token with which the grammar could go on.
    #[error(
        "after {tokens} tokens of the answer its grammar allows no token of the vocabulary; \
         allow the answer to end there, or use a vocabulary with a token for every byte"
    )]
    DeadEnd {
        /// Tokens of the answer before it.
        tokens: usize,
    },
    /// Following the grammar takes too much time or memory.
    #[error("the grammar can't be followed any further: {problem}; make it simpler")]
    TooComplex {
        /// What there is too much of.
        problem: String,
    },
}
