//! A reader that knows how many bytes are left, and refuses to go past them.

use std::io::{BufReader, Read, Seek, SeekFrom};

use super::GgufError;

/// Longest key or tensor name (the format's own limit for keys). // bytes
const MAX_NAME_BYTES: u64 = 65_535;
/// Longest string value; the longest real ones are chat templates. // bytes
const MAX_STRING_BYTES: u64 = 16 << 20;
/// Most a file may use for metadata and tensor table: ten times the largest real vocabularies.
const MAX_HEADER_BYTES: u64 = 512 << 20;

pub(super) struct Cursor<'r, R: Read + Seek> {
    reader: BufReader<&'r mut R>,
    position: u64,
    file_len: u64,
}

impl<'r, R: Read + Seek> Cursor<'r, R> {
    pub(super) fn new(reader: &'r mut R) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io {
            what: "the size of the file".to_owned(),
            source,
        };
        let file_len = reader.seek(SeekFrom::End(0)).map_err(io)?;
        reader.seek(SeekFrom::Start(0)).map_err(io)?;
        Ok(Self {
            reader: BufReader::with_capacity(64 << 10, reader),
            position: 0,
            file_len,
        })
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Checks that the next `bytes` bytes exist, before anyone allocates for them.
    pub(super) fn check_room(
        &self,
        what: impl FnOnce() -> String,
        bytes: u64,
    ) -> Result<(), GgufError> {
        let end = self.position.saturating_add(bytes);
        if end > self.file_len {
            return Err(GgufError::Truncated {
                what: what(),
                needed: end,
                given: self.file_len,
            });
        }
        if end > MAX_HEADER_BYTES {
            return Err(GgufError::AbsurdCount {
                what: format!("bytes of header with {}", what()),
                count: end,
                most: MAX_HEADER_BYTES,
            });
        }
        Ok(())
    }

    fn fill(&mut self, what: &str, bytes: &mut [u8]) -> Result<(), GgufError> {
        self.check_room(|| what.to_owned(), bytes.len() as u64)?;
        self.reader
            .read_exact(bytes)
            .map_err(|source| GgufError::Io {
                what: what.to_owned(),
                source,
            })?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(what, &mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A key or tensor name: short, and not empty.
    pub(super) fn name(&mut self, what: &str) -> Result<String, GgufError> {
        let name = self.bounded_string(what, MAX_NAME_BYTES)?;
        if name.is_empty() {
            return Err(GgufError::EmptyName {
                what: what.to_owned(),
            });
        }
        Ok(name)
    }

    /// A string value.
    pub(super) fn string(&mut self, what: &str) -> Result<String, GgufError> {
        self.bounded_string(what, MAX_STRING_BYTES)
    }

    fn bounded_string(&mut self, what: &str, most: u64) -> Result<String, GgufError> {
        let len = self.u64(what)?;
        self.check_room(|| what.to_owned(), len)?;
        if len > most {
            return Err(GgufError::AbsurdCount {
                what: format!("bytes in {what}"),
                count: len,
                most,
            });
        }
        // `most` is far below usize::MAX on every target.
        let mut bytes = vec![0; len as usize];
        self.fill(what, &mut bytes)?;
        String::from_utf8(bytes).map_err(|_| GgufError::NotUtf8 {
            what: what.to_owned(),
        })
    }

    /// `count` fixed-size little-endian items, `N` bytes each.
    pub(super) fn items<const N: usize, T>(
        &mut self,
        what: &str,
        count: u64,
        item: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        self.check_room(|| what.to_owned(), count.saturating_mul(N as u64))?;
        // In pieces, so that what is held never exceeds what was read by much.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self.array(what)?));
        }
        Ok(items)
    }
}
