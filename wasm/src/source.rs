//! The bytes of a model file, as JavaScript gives them.

use std::{
    cell::RefCell,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
};

use js_sys::{Promise, Uint8Array};
use sunfleck::model::{Gguf, GgufError, WeightSource};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use crate::error::{Code, fail};

#[wasm_bindgen]
extern "C" {
    /// What the package's `js/` makes of an address, a file or a stream.
    pub type ByteSource;

    /// Bytes of the file; undefined where that is not known before its end.
    #[wasm_bindgen(method, getter)]
    fn size(this: &ByteSource) -> Option<f64>;

    /// `length` bytes from `offset` on, fewer only where the file ends.
    #[wasm_bindgen(method, catch)]
    fn read(this: &ByteSource, offset: f64, length: f64) -> Result<Promise, JsValue>;
}

/// A [`ByteSource`] as a source of weights. What it rejected with is kept, so that the caller gets it back.
pub struct JsSource {
    source: ByteSource,
    rejected: Rc<RefCell<Option<JsValue>>>,
}

/// Bytes of the file's beginning that are read at first: the header of most models.
const FIRST: u64 = 4 << 20;

impl JsSource {
    pub fn new(source: ByteSource) -> Self {
        Self {
            source,
            rejected: Rc::default(),
        }
    }

    /// The error for JavaScript: what the source rejected with, or else `error`.
    pub fn explain(&self, error: impl std::fmt::Display) -> JsValue {
        let rejected = self.rejected.borrow_mut().take();
        rejected.unwrap_or_else(|| fail(Code::Model, error))
    }

    async fn bytes(&self, offset: u64, length: u64) -> io::Result<Uint8Array> {
        let reject = |error: JsValue| {
            *self.rejected.borrow_mut() = Some(error);
            io::Error::other("the source of the model file failed")
        };
        let promise = self
            .source
            .read(offset as f64, length as f64)
            .map_err(reject)?;
        let bytes = JsFuture::from(promise).await.map_err(reject)?;
        Ok(bytes.unchecked_into())
    }

    /// Reads the header: as much of the file's beginning as it needs.
    pub async fn header(&self) -> Result<Gguf, JsValue> {
        let size = self.source.size().map(|size| size as u64);
        let mut wanted = FIRST;
        loop {
            let length = size.map_or(wanted, |size| size.min(wanted));
            let bytes = self.bytes(0, length).await.map_err(|e| self.explain(e))?;
            let bytes = bytes.to_vec();
            let all = (bytes.len() as u64) < wanted;
            let mut beginning = Beginning {
                // A file of unknown size is taken to be endless until its end is seen.
                file_len: match (size, all) {
                    (Some(size), _) => size,
                    (None, true) => bytes.len() as u64,
                    (None, false) => i64::MAX as u64,
                },
                bytes,
                position: 0,
                short: false,
            };
            match Gguf::read(&mut beginning) {
                Ok(gguf) => return Ok(gguf),
                Err(GgufError::Io { .. }) if beginning.short && !all => wanted *= 2,
                Err(error) => return Err(self.explain(error)),
            }
        }
    }
}

impl WeightSource for JsSource {
    async fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let found = self.bytes(offset, bytes.len() as u64).await?;
        if found.length() as usize != bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        found.copy_to(bytes);
        Ok(())
    }
}

/// The beginning of a file that is longer.
struct Beginning {
    bytes: Vec<u8>,
    file_len: u64,
    position: u64,
    short: bool, // whether bytes after the beginning were wanted
}

impl Read for Beginning {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.position)
            .ok()
            .and_then(|start| self.bytes.get(start..))
            .unwrap_or_default();
        if rest.is_empty() && self.position < self.file_len {
            self.short = true;
            return Err(io::Error::other("more of the file is needed"));
        }
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Beginning {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.file_len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
