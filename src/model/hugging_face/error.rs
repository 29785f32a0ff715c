//! What can be wrong with a folder of a model.

use crate::model::GgufError;

/// Why a folder with `config.json` and safetensors files was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HuggingFaceError {
    /// A file is missing, can't be read or is too long.
    #[error(
        "{file} can't be read: {source}; needed a folder with config.json and model.safetensors, or \
         model.safetensors.index.json and all files that it names"
    )]
    Io {
        /// The file.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// A file is not JSON.
    #[error("{file} is not valid JSON: {message}; download it again")]
    Json {
        /// The file.
        file: String,
        /// What the parser says.
        message: String,
    },
    /// A value is missing, or not what it should be.
    #[error("`{key}` of {file} is {given}; needed {needed}")]
    Value {
        /// The file.
        file: &'static str,
        /// The key, with dots where it is inside another.
        key: String,
        /// What it is, or `missing`.
        given: String,
        /// What is needed.
        needed: String,
    },
    /// A safetensors file is damaged.
    #[error("{file} is not a whole safetensors file: {what}; download it again")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A tensor's elements are of a type that is not read.
    #[error("tensor `{tensor}` of {file} has elements of type {given}; needed F32, F16 or BF16")]
    ElementType {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its type.
        given: String,
    },
    /// The index names a tensor that its file doesn't have.
    #[error("{file} has no tensor `{tensor}`, which the index says is in it; download it again")]
    TensorMissing {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The index names a file that is not one of the folder.
    #[error("the index names the file {given:?}; needed a file of the same folder")]
    FileName {
        /// What it names.
        given: String,
    },
    /// The model has neither a head nor says that it uses the embedding.
    #[error(
        "config.json has no `tie_word_embeddings` set to true and no file has `lm_head.weight`; a file may be missing"
    )]
    HeadMissing,
    /// The tensors can't be one table.
    #[error(transparent)]
    Gguf(GgufError),
}
