//! A folder as Hugging Face has models: `config.json`, `tokenizer.json` and weights in safetensors files.
//!
//! It becomes a [`Gguf`], with GGUF's keys and names, and one reader of all weight files: everything behind it
//! (hyperparameters, tokenizer, chat template, decoder) knows no other format. Keys of our own say what GGUF has no
//! word for: [`ROPE_PAIRS`], since weights here are not permuted for neighbouring pairs as GGUF converters do,
//! [`PRE_TOKENIZER`], the pre-tokeniser itself where GGUF has a name for it, and of SentencePiece vocabularies
//! [`SENTENCE_PIECE`], [`SPACE_PREFIX`] and [`SPLIT_WORDS`].
//!
//! In the order of [`open`]: `config` reads the shape, `weights` finds the files, `safetensors` reads their headers,
//! `names` renames the tensors, `tokenizer` reads the vocabulary, `sentence_piece` what one of that kind says of spaces.

mod config;
mod error;
mod names;
mod safetensors;
mod sentence_piece;
mod tokenizer;
mod weights;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
};

pub use error::HuggingFaceError;
use serde_json::Value as Json;

use super::{
    GgmlType, Gguf, TensorInfo,
    gguf::{Shards, Value},
};

/// Metadata key: `halves` where elements `i` and `i + n / 2` of a head rotate together, whatever the family.
pub const ROPE_PAIRS: &str = "sunfleck.rope_pairs";
/// Metadata key: the pre-tokeniser as `tokenizer.json` has it.
pub const PRE_TOKENIZER: &str = "sunfleck.pre_tokenizer";
/// Metadata key: `bpe` or `unigram` for a SentencePiece vocabulary, where GGUF has scores alone.
pub const SENTENCE_PIECE: &str = "sunfleck.sentence_piece";
/// Metadata key: where such a vocabulary puts a space that is not in the text: `none`, `sections` (before each text between
/// control tokens), `spaced` (likewise, unless it begins with one) or `start` (likewise, at the start alone).
pub const SPACE_PREFIX: &str = "sunfleck.space_prefix";
/// Metadata key: whether a word ends such a vocabulary's tokens.
pub const SPLIT_WORDS: &str = "sunfleck.split_words";
/// Metadata key: whether a whole word that is a token is taken as it is, whatever the merges say.
pub const IGNORE_MERGES: &str = "sunfleck.ignore_merges";
/// Metadata key: whether text is brought into Unicode's normal form C before it is encoded.
pub const NORMAL_FORM_C: &str = "sunfleck.normal_form_c";

/// Most a file of settings may have; the longest real vocabularies have 35 MB. // bytes
const MAX_JSON_BYTES: u64 = 256 << 20;

/// A weight file, or weights computed from the configuration.
#[derive(Debug)]
pub enum WeightFile {
    /// A safetensors file.
    File(File),
    /// Divisors of RoPE's frequencies, computed from `rope_scaling`.
    Memory(Cursor<Vec<u8>>),
}

impl Read for WeightFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(bytes),
            Self::Memory(bytes_held) => bytes_held.read(bytes),
        }
    }
}

impl Seek for WeightFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(bytes_held) => bytes_held.seek(to),
        }
    }
}

/// Opens the model in `folder`: Llama, Mistral, Qwen2, Qwen3 or SmolLM with F32, F16 or BF16 weights.
///
/// A folder without `tokenizer.json` is a model without a tokenizer: token ids in, token ids out.
///
/// ```no_run
/// use sunfleck::model::{Tokenizer, hugging_face};
///
/// let (gguf, mut reader) = hugging_face::open("SmolLM2-135M-Instruct")?;
/// let tokenizer = Tokenizer::from_gguf(&gguf)?;
/// // `Decoder::load(&gpu, &gguf, &mut reader, ..)` reads the weights of all files.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`HuggingFaceError`] names the file, and the key or tensor in it, that is missing, damaged or of a kind that isn't
/// read here.
pub fn open(folder: impl AsRef<Path>) -> Result<(Gguf, Shards<WeightFile>), HuggingFaceError> {
    let folder = folder.as_ref();
    let configuration = needed_json(folder, "config.json")?;
    let mut metadata = HashMap::new();
    let shape = config::read(&configuration, &mut metadata)?;
    if let Some(vocabulary) = json(folder, "tokenizer.json")? {
        let settings = json(folder, "tokenizer_config.json")?.unwrap_or(Json::Null);
        let template = text(folder, "chat_template.jinja")?;
        let sources = tokenizer::Sources {
            vocabulary: &vocabulary,
            settings: &settings,
            configuration: &configuration,
            template,
        };
        tokenizer::read(&sources, &mut metadata)?;
    }

    let mut tensors = Vec::new();
    let mut files = Vec::new();
    let mut start = 0u64; // of the file, as if all lay one after the other
    for found in weights::files(folder)? {
        for mut tensor in found.tensors {
            let Some(name) = names::gguf_name(&tensor.name, shape.tied) else {
                continue;
            };
            tensor.name = name;
            // Inside the file, and files are far from 2^64 bytes.
            tensor.offset = tensor.offset.saturating_add(start);
            tensors.push(tensor);
        }
        start = start.saturating_add(found.len);
        files.push(WeightFile::File(found.file));
    }
    for (name, divisors) in &shape.rope_divisors {
        let bytes: Vec<u8> = (divisors.iter())
            .flat_map(|divisor| divisor.to_le_bytes())
            .collect();
        tensors.push(TensorInfo {
            name: (*name).to_owned(),
            shape: vec![divisors.len() as u64],
            kind: GgmlType::F32,
            offset: start,
            byte_len: bytes.len() as u64,
        });
        start = start.saturating_add(bytes.len() as u64);
        files.push(WeightFile::Memory(Cursor::new(bytes)));
    }
    if !shape.tied && !tensors.iter().any(|tensor| tensor.name == "output.weight") {
        return Err(HuggingFaceError::HeadMissing);
    }
    metadata.insert(ROPE_PAIRS.to_owned(), Value::String("halves".to_owned()));
    let reader = Shards::new(files).map_err(|source| HuggingFaceError::Io {
        file: folder.display().to_string(),
        source,
    })?;
    let gguf = Gguf::assemble(metadata, tensors, start).map_err(HuggingFaceError::Gguf)?;
    Ok((gguf, reader))
}

/// The text of a file, if it is there.
fn text(folder: &Path, name: &str) -> Result<Option<String>, HuggingFaceError> {
    let path = folder.join(name);
    let fail = |source| HuggingFaceError::Io {
        file: path.display().to_string(),
        source,
    };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut text = String::new();
    let read = file.take(MAX_JSON_BYTES + 1).read_to_string(&mut text);
    if read.map_err(fail)? as u64 > MAX_JSON_BYTES {
        return Err(fail(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(Some(text))
}

fn json(folder: &Path, name: &str) -> Result<Option<Json>, HuggingFaceError> {
    let parse = |text: String| {
        serde_json::from_str(&text).map_err(|error| HuggingFaceError::Json {
            file: folder.join(name).display().to_string(),
            message: error.to_string(),
        })
    };
    text(folder, name)?.map(parse).transpose()
}

fn needed_json(folder: &Path, name: &str) -> Result<Json, HuggingFaceError> {
    json(folder, name)?.ok_or_else(|| HuggingFaceError::Io {
        file: folder.join(name).display().to_string(),
        source: io::ErrorKind::NotFound.into(),
    })
}
