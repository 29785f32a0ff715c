//! A model in several files, as `llama-gguf-split` cuts it: every file is GGUF itself, the first has all metadata.
//!
//! Files of one model are called `NAME-00001-of-00003.gguf` and so on, and say in `split.no` and `split.count` which
//! they are. Here they become one: [`Gguf::join`] makes one table of all tensors with offsets as if the files lay one
//! after the other, and [`Shards`] reads them so.
//!
//! Source: `tools/gguf-split` of llama.cpp and the names in [the format's description][gguf].
//!
//! [gguf]: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::{Gguf, GgufError};

/// This file's number, from 0.
const NUMBER: &str = "split.no";
/// Files of the model.
const COUNT: &str = "split.count";
/// Tensors of all files together.
const TENSORS: &str = "split.tensors.count";

/// Why a model in one or more files was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A file can't be opened, or its size not be read.
    #[error("{file} can't be opened: {source}{}", missing(*.count))]
    Open {
        /// The file.
        file: String,
        /// Files of the model; 1 where it is not known to have more.
        count: u32,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not GGUF, or damaged.
    #[error("{file}: {source}")]
    Gguf {
        /// The file.
        file: String,
        /// What is wrong with it.
        source: GgufError,
    },
    /// A file of several whose name doesn't say where the others are.
    #[error(
        "{file} is one of {count} files of a model; needed a name that ends in -{:05}-of-{count:05}.gguf, so that the \
         others are found: give it back the name it had",
        .number.saturating_add(1)
    )]
    Name {
        /// The file.
        file: String,
        /// Its number by `split.no`, from 0.
        number: u32,
        /// Files of the model.
        count: u32,
    },
    /// A file is not the one its place needs: not the first was given, or files were renamed.
    #[error(
        "{file} is file {} of {given_count} by its metadata; needed file {} of {needed_count}: give the model by its \
         first file, with all files named as they were when downloaded",
        .given.saturating_add(1), .needed.saturating_add(1)
    )]
    Misnumbered {
        /// The file.
        file: String,
        /// The number needed, from 0.
        needed: u32,
        /// Files needed in all.
        needed_count: u32,
        /// `split.no` of the file, from 0.
        given: u32,
        /// `split.count` of the file; 1 where it has none.
        given_count: u32,
    },
    /// A tensor is in two files.
    #[error("tensor `{tensor}` is in {file} and in a file before it; download the model again")]
    DuplicateTensor {
        /// The tensor.
        tensor: String,
        /// The second file that has it.
        file: String,
    },
    /// The files don't have all tensors.
    #[error(
        "the files starting with {file} have {given} tensors together; needed {needed} (`split.tensors.count`): \
         download the model again"
    )]
    Tensors {
        /// The first file.
        file: String,
        /// Tensors that the first file announces.
        needed: u64,
        /// Tensors found.
        given: u64,
    },
    /// No file was given.
    #[error("a model of no files was given; needed at least one")]
    NoFile,
}

fn missing(count: u32) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!("; the model has {count} files, put all of them into one folder"),
    }
}

/// The name of file `number` (from 0) of a model whose first file is called `first`; `None` where `first` doesn't end as
/// the first of `count` files does.
///
/// ```
/// use sunfleck::model::gguf::shard_name;
///
/// let second = shard_name("qwen-00001-of-00003.gguf", 1, 3);
/// assert_eq!(second.as_deref(), Some("qwen-00002-of-00003.gguf"));
/// assert_eq!(shard_name("qwen.gguf", 1, 3), None);
/// ```
pub fn shard_name(first: &str, number: u32, count: u32) -> Option<String> {
    let name = first.strip_suffix(&format!("-00001-of-{count:05}.gguf"))?;
    let number = number.checked_add(1).filter(|number| *number <= count)?;
    Some(format!("{name}-{number:05}-of-{count:05}.gguf"))
}

/// Opens the model at `path`: one file, or the first of several in one folder.
///
/// ```no_run
/// use sunfleck::model::{Tokenizer, gguf};
///
/// let (gguf, mut reader) = gguf::open("model-00001-of-00002.gguf")?;
/// let tokenizer = Tokenizer::from_gguf(&gguf)?;
/// // `Decoder::load(&gpu, &gguf, &mut reader, ..)` reads the weights of all files.
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`ShardError`] names the file that is missing, damaged or out of place.
pub fn open(path: impl AsRef<Path>) -> Result<(Gguf, Shards<File>), ShardError> {
    let path = path.as_ref();
    let open = |path: &Path, count| {
        let name = path.display().to_string();
        let mut file = File::open(path).map_err(|source| ShardError::Open {
            file: name.clone(),
            count,
            source,
        })?;
        let gguf = Gguf::read(&mut file).map_err(|source| ShardError::Gguf {
            file: name.clone(),
            source,
        })?;
        Ok((name, gguf, file))
    };
    let (name, gguf, file) = open(path, 1)?;
    let (number, count) = place(&name, &gguf)?;
    let mut parts = vec![(name.clone(), gguf)];
    let mut files = vec![file];
    if count > 1 {
        if number != 0 {
            return Err(ShardError::Misnumbered {
                file: name,
                needed: 0,
                needed_count: count,
                given: number,
                given_count: count,
            });
        }
        let file_name = path.file_name().and_then(|name| name.to_str());
        for next in 1..count {
            let next = file_name.and_then(|first| shard_name(first, next, count));
            let next = next.ok_or_else(|| ShardError::Name {
                file: name.clone(),
                number,
                count,
            })?;
            let (name, gguf, file) = open(&path.with_file_name(next), count)?;
            parts.push((name, gguf));
            files.push(file);
        }
    }
    let gguf = Gguf::join(parts)?;
    let reader = Shards::new(files).map_err(|source| ShardError::Open {
        file: name,
        count,
        source,
    })?;
    Ok((gguf, reader))
}

/// A file's `split.no` and `split.count`; 0 and 1 where it has none.
fn place(file: &str, gguf: &Gguf) -> Result<(u32, u32), ShardError> {
    let read = |key: &str, default| match gguf.get(key) {
        Some(value) => value.as_u32(key).map_err(|source| ShardError::Gguf {
            file: file.to_owned(),
            source,
        }),
        None => Ok(default),
    };
    // `llama-gguf-split --merge` leaves a count of 0 behind.
    Ok((read(NUMBER, 0)?, read(COUNT, 1)?.max(1)))
}

impl Gguf {
    /// One table of the tensors of all files of a model, as if the files lay one after the other, with the metadata of
    /// the first. Each file comes with a name, for errors. The data is then read through [`Shards`], or any other
    /// source that has the files' bytes in this order.
    ///
    /// # Errors
    /// [`ShardError`], where the files are not all files of one model in their order.
    pub fn join(files: Vec<(String, Gguf)>) -> Result<Self, ShardError> {
        let needed_count = u32::try_from(files.len()).unwrap_or(u32::MAX);
        let mut files = files.into_iter();
        let Some((first, mut whole)) = files.next() else {
            return Err(ShardError::NoFile);
        };
        let in_place = |file: &str, gguf: &Gguf, needed| match place(file, gguf)? {
            (given, count) if (given, count) == (needed, needed_count) => Ok(()),
            (given, given_count) => Err(ShardError::Misnumbered {
                file: file.to_owned(),
                needed,
                needed_count,
                given,
                given_count,
            }),
        };
        in_place(&first, &whole, 0)?;
        for ((file, part), number) in files.zip(1..) {
            in_place(&file, &part, number)?;
            whole.append(&file, part)?;
        }
        if let Some(value) = whole.get(TENSORS).filter(|_| needed_count > 1) {
            let source = |source| ShardError::Gguf {
                file: first.clone(),
                source,
            };
            let needed = value.as_u64(TENSORS).map_err(source)?;
            let given = whole.tensors.len() as u64;
            if needed != given {
                return Err(ShardError::Tensors {
                    file: first,
                    needed,
                    given,
                });
            }
        }
        for key in [NUMBER, COUNT, TENSORS] {
            whole.metadata.remove(key);
        }
        Ok(whole)
    }

    /// Takes the tensors of `part`, whose bytes come after those there are.
    fn append(&mut self, file: &str, part: Gguf) -> Result<(), ShardError> {
        let too_long = || ShardError::Gguf {
            file: file.to_owned(),
            source: GgufError::AbsurdCount {
                what: "bytes of all files together".to_owned(),
                count: u64::MAX,
                most: u64::MAX - 1,
            },
        };
        let file_len = self.file_len.checked_add(part.file_len);
        let file_len = file_len.ok_or_else(too_long)?;
        for mut tensor in part.tensors {
            // Inside the part, so no more than `file_len`.
            tensor.offset += self.file_len;
            let (name, index) = (tensor.name.clone(), self.tensors.len());
            if self.tensor_index.insert(name, index).is_some() {
                return Err(ShardError::DuplicateTensor {
                    tensor: tensor.name,
                    file: file.to_owned(),
                });
            }
            self.tensors.push(tensor);
        }
        self.file_len = file_len;
        Ok(())
    }
}

/// Files read one after the other, as one.
#[derive(Debug)]
pub struct Shards<R> {
    files: Vec<(u64, R)>, // the position after the file's last byte
    position: u64,
}

impl<R: Read + Seek> Shards<R> {
    /// Takes the files in their order.
    ///
    /// # Errors
    /// The reader's own where a file's size can't be read, and [`io::ErrorKind::FileTooLarge`] where all of them
    /// together have more than 2^64 bytes.
    pub fn new(files: Vec<R>) -> io::Result<Self> {
        let mut end = 0u64;
        let mut placed = Vec::new();
        for mut file in files {
            let len = file.seek(SeekFrom::End(0))?;
            end = end.checked_add(len).ok_or(io::ErrorKind::FileTooLarge)?;
            placed.push((end, file));
        }
        Ok(Self {
            files: placed,
            position: 0,
        })
    }

    fn len(&self) -> u64 {
        self.files.last().map_or(0, |(end, _)| *end)
    }
}

impl<R: Read + Seek> Read for Shards<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let at = self.files.partition_point(|(end, _)| *end <= self.position);
        let start = at.checked_sub(1).map_or(0, |before| self.files[before].0);
        let Some((end, file)) = self.files.get_mut(at) else {
            return Ok(0);
        };
        let left = usize::try_from(*end - self.position).unwrap_or(usize::MAX);
        let len = left.min(bytes.len());
        file.seek(SeekFrom::Start(self.position - start))?;
        let read = file.read(&mut bytes[..len])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<R: Read + Seek> Seek for Shards<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_count_from_one_with_five_digits() {
        let name = |first, number| shard_name(first, number, 12);
        assert_eq!(
            name("a-00001-of-00012.gguf", 11).as_deref(),
            Some("a-00012-of-00012.gguf")
        );
        assert_eq!(name("a-00001-of-00012.gguf", 12), None);
        assert_eq!(name("a-00002-of-00012.gguf", 1), None);
        assert_eq!(name("a-00001-of-00013.gguf", 1), None);
    }

    #[test]
    fn files_are_read_as_one_across_their_ends() {
        let parts = [&[0u8, 1, 2][..], &[], &[3], &[4, 5, 6, 7]];
        let files = parts.map(io::Cursor::new).into();
        let mut shards = Shards::new(files).unwrap();
        let mut all = Vec::new();
        shards.read_to_end(&mut all).unwrap();
        assert_eq!(all, [0, 1, 2, 3, 4, 5, 6, 7]);
        for start in 0..8u8 {
            for len in 0..=8 - start {
                let mut bytes = vec![0; usize::from(len)];
                shards.seek(SeekFrom::Start(u64::from(start))).unwrap();
                shards.read_exact(&mut bytes).unwrap();
                assert_eq!(bytes, (start..start + len).collect::<Vec<u8>>());
            }
        }
        assert_eq!(shards.seek(SeekFrom::End(-1)).unwrap(), 7);
        assert_eq!(
            shards.seek(SeekFrom::Current(-8)).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        let error = shards.read_exact(&mut [0; 2]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(shards.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
        assert_eq!(shards.read(&mut [0; 2]).unwrap(), 0);
    }
}
