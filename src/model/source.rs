//! Where the bytes of a model file come from: a file, or anything that answers later, as a download.

use std::{
    future::{Future, ready},
    io::{self, Read, Seek, SeekFrom},
};

/// Bytes by position, each of which may have to be waited for.
///
/// A source of one's own lets a model load while its file is still being downloaded: the decoder asks for
/// tensors roughly in the order in which files have them.
///
/// ```
/// use std::{future::{Future, ready}, io};
/// use sunfleck::model::WeightSource;
///
/// struct InMemory(Vec<u8>);
///
/// impl WeightSource for InMemory {
///     fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> impl Future<Output = io::Result<()>> {
///         let start = usize::try_from(offset).unwrap_or(usize::MAX);
///         let found = self.0.get(start..start.saturating_add(bytes.len()));
///         ready(match found {
///             Some(found) => {
///                 bytes.copy_from_slice(found);
///                 Ok(())
///             }
///             None => Err(io::ErrorKind::UnexpectedEof.into()),
///         })
///     }
/// }
/// ```
pub trait WeightSource {
    /// Fills `bytes` with what the file has from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] where the file ends before; others as the source has them.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> impl Future<Output = io::Result<()>>;
}

/// A file or anything else that can be read and sought at once.
#[derive(Debug)]
pub struct ReaderSource<'r, R>(pub &'r mut R);

impl<R: Read + Seek> WeightSource for ReaderSource<'_, R> {
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> impl Future<Output = io::Result<()>> {
        let sought = self.0.seek(SeekFrom::Start(offset));
        ready(sought.and_then(|_| self.0.read_exact(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_gives_the_bytes_at_the_offset_and_says_where_it_ends() {
        let mut file = io::Cursor::new(vec![1, 2, 3, 4]);
        let mut source = ReaderSource(&mut file);
        let mut two = [0; 2];
        pollster::block_on(source.read_at(1, &mut two)).unwrap();
        assert_eq!(two, [2, 3]);
        let error = pollster::block_on(source.read_at(3, &mut two)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
