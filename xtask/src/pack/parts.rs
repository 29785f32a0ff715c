//! A large file in parts, where a transfer takes no more than so many bytes at once.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::stamp::hexadecimal;

/// A part of a file, or a whole file.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// File name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// Copies `file` to `folder` in parts of at most `part_size` bytes, called `name.part-00` and so on. Returns the whole
/// (called as the file is) and the parts.
pub fn split(
    file: &Path,
    folder: &Path,
    name: &str,
    part_size: Option<u64>,
) -> Result<(Part, Vec<Part>)> {
    let reading = || format!("{} cannot be read", file.display());
    let mut source = File::open(file).with_context(reading)?;
    let length = source.metadata().with_context(reading)?.len();
    ensure!(length > 0, "{} is empty", file.display());
    let part_size = part_size.unwrap_or(length);
    let mut progress = Progress::new("copying the model", length);
    let mut all = Sha256::new();
    let (mut parts, mut done) = (vec![], 0);
    while done < length {
        let name = format!("{name}.part-{:02}", parts.len());
        let path = folder.join(&name);
        let writing = || format!("{} cannot be written", path.display());
        let mut target = File::create(&path).with_context(writing)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 18];
        let mut bytes = 0;
        while bytes < part_size {
            let most = (part_size - bytes).min(block.len() as u64) as usize;
            let read = match source.read(&mut block[..most]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).with_context(reading),
            };
            target.write_all(&block[..read]).with_context(writing)?;
            hasher.update(&block[..read]);
            all.update(&block[..read]);
            bytes += read as u64;
            progress.set(done + bytes);
        }
        ensure!(
            bytes > 0,
            "{} became shorter while it was read",
            file.display()
        );
        done += bytes;
        parts.push(Part {
            name,
            bytes,
            sha256: hexadecimal(hasher),
        });
    }
    let own_name = file.file_name().map(PathBuf::from).unwrap_or_default();
    let whole = Part {
        name: own_name.display().to_string(),
        bytes: done,
        sha256: hexadecimal(all),
    };
    Ok((whole, parts))
}

/// Length and checksum of a file under this name.
pub fn part_of(file: &Path, name: &str) -> Result<Part> {
    let reading = || format!("{} cannot be read", file.display());
    let sha256 = crate::stamp::sha256_of(file, |_| ()).with_context(reading)?;
    Ok(Part {
        name: name.to_owned(),
        bytes: file.metadata().with_context(reading)?.len(),
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn in_parts(content: &[u8], part_size: Option<u64>) -> (Part, Vec<Part>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("my model.gguf");
        fs::write(&file, content).unwrap();
        let (whole, parts) = split(&file, folder.path(), "pack.model", part_size).unwrap();
        for part in &parts {
            let again = part_of(&folder.path().join(&part.name), &part.name).unwrap();
            assert_eq!(&again, part);
        }
        let joined = parts
            .iter()
            .flat_map(|part| fs::read(folder.path().join(&part.name)).unwrap())
            .collect();
        (whole, parts, joined)
    }

    #[test]
    fn parts_in_order_are_the_file() {
        let content: Vec<u8> = (0..700_001_u32).map(|at| (at % 251) as u8).collect();
        for part_size in [
            None,
            Some(700_001),
            Some(700_000),
            Some(300_000),
            Some(100_000),
        ] {
            let (whole, parts, joined) = in_parts(&content, part_size);
            assert!(joined == content, "{part_size:?}");
            let most = part_size.unwrap_or(u64::MAX);
            assert!(parts.iter().all(|part| part.bytes <= most));
            assert_eq!(
                parts.len() as u64,
                700_001_u64.div_ceil(part_size.unwrap_or(700_001))
            );
            assert_eq!(whole.bytes, 700_001);
            assert_eq!(
                whole.sha256,
                hexadecimal(Sha256::new_with_prefix(&content)),
                "{part_size:?}"
            );
        }
    }

    #[test]
    fn names_of_parts_sort_in_their_order() {
        let (whole, parts, _) = in_parts(&[7; 1200], Some(100));
        let names: Vec<_> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(
            (names[0], names[11]),
            ("pack.model.part-00", "pack.model.part-11")
        );
        assert!(names.is_sorted());
        assert_eq!(whole.name, "my model.gguf");
    }

    #[test]
    fn empty_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("empty");
        fs::write(&file, "").unwrap();
        let error = split(&file, folder.path(), "m", None).unwrap_err();
        assert!(error.to_string().contains("is empty"));
    }
}
