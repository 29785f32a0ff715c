//! A session's tokens, keys and values as bytes, to go on later.
//!
//! All numbers are little-endian:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `SUNFLECK` |
//! | 4 | version, 1 |
//! | 7 x 4 | layers, KV heads, key and value elements a head, key and value storage, whether keys are rotated |
//! | 8 | fingerprint of the model |
//! | 3 x 4 | tokens, tokens of them in the cache, tokens that context shifts dropped |
//! | 4 x tokens | token ids |
//! | each layer | keys, then values, `[kv_head, token, row]` as they are stored |
//! | 8 | FNV-1a of all bytes before |
//!
//! Pages and the length of the context are not part of it: what was saved from a paged cache can be restored to a
//! contiguous one.

use super::Session;
use crate::{
    cache::{CacheError, CacheShape},
    gpu::GpuError,
    model::Fnv,
    ops::Element,
};

const MAGIC: &[u8; 8] = b"SUNFLECK";
const VERSION: u32 = 1;
/// Up to the token ids. // bytes
const HEADER: usize = 60;
const CHECKSUM: usize = 8;

/// Why a session can't be saved or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SavedSessionError {
    /// The bytes are something else.
    #[error(
        "this is no saved session: it does not begin with SUNFLECK; give a file that a session was saved to"
    )]
    NotASession,
    /// A format of another version.
    #[error(
        "the session was saved in format {given}, but this version reads {needed}; save it again with this version"
    )]
    Version {
        /// What is read here.
        needed: u32,
        /// What it is.
        given: u32,
    },
    /// The end is missing.
    #[error(
        "the saved session has {given} bytes of {needed}; the end is missing, so save it again"
    )]
    Truncated {
        /// Bytes that it should have.
        needed: u64,
        /// Bytes that there are.
        given: u64,
    },
    /// Bytes were changed.
    #[error("the saved session is damaged: {what}; save it again")]
    Damaged {
        /// What does not fit.
        what: &'static str,
    },
    /// It belongs to another model.
    #[error(
        "the session was saved from another model (fingerprint {given:016x}, this model has {needed:016x}); \
         open the model that it was saved from"
    )]
    OtherModel {
        /// Fingerprint of this session's model.
        needed: u64,
        /// Fingerprint of the model that it was saved from.
        given: u64,
    },
    /// Its cache holds something else of each token.
    #[error(
        "the session was saved from a cache of {given}, but this one is of {needed}; open the session with the same cache (--kv)"
    )]
    OtherCache {
        /// What this session's cache holds of each token.
        needed: String,
        /// What the saved one held.
        given: String,
    },
    /// The context is too small for it.
    #[error(
        "the saved session has {given} tokens in its cache, but the context has room for {context}; raise the context"
    )]
    TooLong {
        /// Tokens in the saved cache.
        given: u32,
        /// Tokens of this session's context.
        context: u32,
    },
    /// The cache's pages do not suffice.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The device failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
}

impl Session {
    /// The sequence as bytes: tokens, and their keys and values as the cache holds them. How tokens are chosen
    /// and who drafts them are not part of it. Waits for the GPU; the session stays as it is.
    ///
    /// ```no_run
    /// # use sunfleck::generate::{SavedSessionError, Session};
    /// # async fn example(first: &Session, second: &mut Session) -> Result<(), SavedSessionError> {
    /// let bytes = first.save().await?;
    /// second.restore(&bytes)?; // of the same model: goes on where the first one stands
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SavedSessionError::Gpu`].
    pub async fn save(&self) -> Result<Vec<u8>, SavedSessionError> {
        let cache = self.decoder.cache();
        let header = Header {
            shape: shape_words(cache.shape()),
            fingerprint: self.decoder.fingerprint(),
            tokens: self.committed.len() as u32,
            past: self.past,
            dropped: self.dropped,
        };
        let mut bytes = header.bytes();
        for token in &self.committed {
            bytes.extend(token.to_le_bytes());
        }
        let runs = self.runs(self.past);
        for layer in 0..cache.shape().layers {
            bytes.extend(cache.read_layer(&self.gpu, layer, &runs).await?);
        }
        let mut checksum = Fnv::new();
        checksum.add(&bytes);
        bytes.extend(checksum.value().to_le_bytes());
        Ok(bytes)
    }

    /// Goes on where the session stood that [`save`](Self::save) made `bytes` of: with the same options it gives the
    /// same tokens. The sequence of this session is forgotten. Model and storage of the cache must be the same; pages
    /// and context may differ.
    ///
    /// # Errors
    /// [`SavedSessionError`]; the sequence stays as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), SavedSessionError> {
        let (header, body) = Header::read(bytes)?;
        let needed = self.decoder.fingerprint();
        if header.fingerprint != needed {
            return Err(SavedSessionError::OtherModel {
                needed,
                given: header.fingerprint,
            });
        }
        let cache = self.decoder.cache();
        let shape = shape_words(cache.shape());
        if header.shape != shape {
            return Err(SavedSessionError::OtherCache {
                needed: describe(shape),
                given: describe(header.shape),
            });
        }
        let context = self.decoder.options().context;
        if header.past > context {
            return Err(SavedSessionError::TooLong {
                given: header.past,
                context,
            });
        }
        let damaged = |what| SavedSessionError::Damaged { what };
        // The last token is never in the cache.
        if header.past > header.tokens.saturating_sub(1) {
            return Err(damaged("more tokens are in the cache than there are"));
        }
        // Positions of the whole text are counted in u32.
        if header.dropped > i32::MAX as u32 {
            return Err(damaged(
                "it has more dropped tokens than a session can have",
            ));
        }
        let (ids, layers) = body.split_at(header.tokens as usize * 4);
        let tokens: Vec<u32> = bytemuck::pod_collect_to_vec(ids);
        let vocabulary = self.decoder.hyperparameters().vocabulary;
        if tokens.iter().any(|token| *token >= vocabulary) {
            return Err(damaged("a token is not in the vocabulary"));
        }
        let layer_bytes = cache.layer_bytes(header.past) as usize;
        if layers.len() != layer_bytes * cache.shape().layers as usize {
            return Err(damaged("keys and values have another length"));
        }
        if let Some(paging) = &self.paging {
            let mut paging = paging.clone();
            paging.refill(&self.gpu, cache, header.past)?;
            self.paging = Some(paging);
        }
        let runs = self.runs(header.past);
        let cache = self.decoder.cache();
        for (layer, bytes) in layers.chunks_exact(layer_bytes.max(1)).enumerate() {
            cache.write_layer(&self.gpu, layer as u32, &runs, bytes);
        }
        self.committed = tokens;
        self.dropped = header.dropped;
        // Features of the last pass belong to the tokens of before.
        self.kept.clear();
        self.constraint = None;
        self.set_past(header.past);
        self.drafter.reset();
        Ok(())
    }

    fn runs(&self, tokens: u32) -> Vec<std::ops::Range<u32>> {
        let pages = self.paging.as_ref().map(|paging| paging.pages());
        let cache = self.decoder.cache();
        cache.runs(&pages.unwrap_or_default(), tokens)
    }
}

/// The numbers at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    shape: [u32; 7],
    fingerprint: u64,
    tokens: u32,
    past: u32,
    dropped: u32,
}

impl Header {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        for word in self.shape {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(self.fingerprint.to_le_bytes());
        for word in [self.tokens, self.past, self.dropped] {
            bytes.extend(word.to_le_bytes());
        }
        bytes
    }

    /// The header, and the bytes between it and the checksum, which hold at least the token ids.
    fn read(bytes: &[u8]) -> Result<(Self, &[u8]), SavedSessionError> {
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if magic.is_empty() || !MAGIC.starts_with(magic) {
            return Err(SavedSessionError::NotASession);
        }
        let truncated = |needed: u64| SavedSessionError::Truncated {
            needed,
            given: bytes.len() as u64,
        };
        let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
            return Err(truncated((HEADER + CHECKSUM) as u64));
        };
        let words: Vec<u32> = bytemuck::pod_collect_to_vec(&header[MAGIC.len()..]);
        let &[
            given,
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            low,
            high,
            tokens,
            past,
            dropped,
        ] = &words[..]
        else {
            return Err(truncated((HEADER + CHECKSUM) as u64));
        };
        if given != VERSION {
            return Err(SavedSessionError::Version {
                needed: VERSION,
                given,
            });
        }
        let header = Self {
            shape: [s0, s1, s2, s3, s4, s5, s6],
            fingerprint: u64::from(low) | u64::from(high) << 32,
            tokens,
            past,
            dropped,
        };
        let needed = header.total_bytes().ok_or(SavedSessionError::Damaged {
            what: "its header has numbers that no session has",
        })?;
        if (bytes.len() as u64) < needed {
            return Err(truncated(needed));
        }
        if bytes.len() as u64 > needed {
            return Err(SavedSessionError::Damaged {
                what: "something follows its end",
            });
        }
        let (body, checksum) = rest.split_at(rest.len() - CHECKSUM);
        let mut hash = Fnv::new();
        hash.add(&bytes[..bytes.len() - CHECKSUM]);
        if hash.value().to_le_bytes() != checksum {
            return Err(SavedSessionError::Damaged {
                what: "its checksum differs",
            });
        }
        Ok((header, body))
    }

    /// Bytes of everything; `None` for numbers that no session has.
    fn total_bytes(&self) -> Option<u64> {
        let [layers, kv_heads, head_dim, value_dim, key, value, rotated] = self.shape;
        let shape = CacheShape {
            layers,
            kv_heads,
            head_dim,
            value_dim,
            key: *Element::ALL.get(key as usize)?,
            value: *Element::ALL.get(value as usize)?,
            rotate_keys: rotated == 1,
        };
        shape.check().ok()?;
        let keys = shape.token_bytes().checked_mul(u64::from(self.past))?;
        let fixed = (HEADER + CHECKSUM) as u64 + u64::from(self.tokens) * 4;
        keys.checked_add(fixed)
    }
}

/// A shape as the format has it; elements by their place in [`Element::ALL`].
fn shape_words(shape: &CacheShape) -> [u32; 7] {
    let code = |element: Element| Element::ALL.iter().position(|e| *e == element);
    let code = |element| code(element).map_or(u32::MAX, |at| at as u32);
    [
        shape.layers,
        shape.kv_heads,
        shape.head_dim,
        shape.value_dim,
        code(shape.key),
        code(shape.value),
        u32::from(shape.rotate_keys),
    ]
}

fn describe([layers, kv_heads, head_dim, value_dim, key, value, _]: [u32; 7]) -> String {
    let name = |code: u32| match Element::ALL.get(code as usize) {
        Some(element) => format!("{element:?}"),
        None => "unknown".to_owned(),
    };
    format!(
        "{layers} layers, {kv_heads} KV heads of {head_dim} keys ({}) and {value_dim} values ({})",
        name(key),
        name(value)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_numbers() {
        // A change here is a new version of the format.
        use Element::{Bf16, F16, F32, Q4, Q8};
        assert_eq!(Element::ALL, [F32, F16, Bf16, Q8, Q4]);
    }

    /// A session of one token, none of it in the cache.
    fn saved() -> Vec<u8> {
        let header = Header {
            shape: [2, 1, 8, 8, 0, 0, 0],
            fingerprint: 0x0123_4567_89ab_cdef,
            tokens: 1,
            past: 0,
            dropped: 3,
        };
        let mut bytes = header.bytes();
        assert_eq!(bytes.len(), HEADER);
        bytes.extend(7u32.to_le_bytes());
        let mut hash = Fnv::new();
        hash.add(&bytes);
        bytes.extend(hash.value().to_le_bytes());
        bytes
    }

    #[test]
    fn a_header_comes_back() {
        let bytes = saved();
        let (header, body) = Header::read(&bytes).unwrap();
        assert_eq!((header.tokens, header.dropped), (1, 3));
        assert_eq!(header.fingerprint, 0x0123_4567_89ab_cdef);
        assert_eq!(body, 7u32.to_le_bytes());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_found() {
        let bytes = saved();
        for length in 0..bytes.len() {
            let error = Header::read(&bytes[..length]).unwrap_err();
            let expected = match length {
                0 => matches!(error, SavedSessionError::NotASession),
                _ => matches!(error, SavedSessionError::Truncated { .. }),
            };
            assert!(expected, "{length}: {error}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(Header::read(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
        let longer = [&bytes[..], &[0]].concat();
        let error = Header::read(&longer).unwrap_err();
        assert!(matches!(error, SavedSessionError::Damaged { .. }));
    }
}
