//! The archive: a gzip-compressed tar file, which every Linux can unpack.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::{NAME, parts::Part, parts::part_of};
use crate::progress::Progress;
use crate::stamp::hexadecimal;

/// An archive that is being written. It appears under its own name only when it is whole.
pub struct Archive {
    path: PathBuf,
    builder: Builder<GzEncoder<BufWriter<File>>>,
    entries: Vec<Part>,
    progress: Progress,
    done: u64,
}

impl Archive {
    /// Starts the archive at `path`; `total` bytes of files are expected.
    pub fn create(path: &Path, total: u64) -> Result<Archive> {
        let unfinished = unfinished(path);
        let file = File::create(&unfinished)
            .with_context(|| format!("{} cannot be written", unfinished.display()))?;
        let encoder = GzEncoder::new(BufWriter::new(file), Compression::default());
        Ok(Archive {
            path: path.to_owned(),
            builder: Builder::new(encoder),
            entries: vec![],
            progress: Progress::new("packing", total),
            done: 0,
        })
    }

    /// Adds a file under `name`, a path inside the pack.
    pub fn add_file(&mut self, name: &str, file: &Path, executable: bool) -> Result<()> {
        let part = part_of(file, name)?;
        let opened =
            File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        let mut header = header(part.bytes, executable);
        let heard = Heard {
            inner: opened,
            done: &mut self.done,
            progress: &mut self.progress,
        };
        self.builder
            .append_data(&mut header, format!("{NAME}/{name}"), heard)
            .with_context(|| format!("{} could not be packed", file.display()))?;
        self.entries.push(part);
        Ok(())
    }

    /// Adds `content` under `name`, a path inside the pack.
    pub fn add_text(&mut self, name: &str, content: &str, executable: bool) -> Result<()> {
        self.builder
            .append_data(
                &mut header(content.len() as u64, executable),
                format!("{NAME}/{name}"),
                content.as_bytes(),
            )
            .with_context(|| format!("{name} could not be packed"))?;
        self.entries.push(Part {
            name: name.to_owned(),
            bytes: content.len() as u64,
            sha256: hexadecimal(Sha256::new_with_prefix(content)),
        });
        Ok(())
    }

    /// The files added so far.
    pub fn entries(&self) -> &[Part] {
        &self.entries
    }

    /// Completes the archive and gives its length and checksum.
    pub fn finish(self) -> Result<Part> {
        let unfinished = unfinished(&self.path);
        let failed = || format!("{} could not be written", unfinished.display());
        let encoder = self.builder.into_inner().with_context(failed)?;
        let mut file = encoder.finish().with_context(failed)?;
        file.flush().with_context(failed)?;
        file.get_ref().sync_all().with_context(failed)?;
        fs::rename(&unfinished, &self.path).with_context(failed)?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        part_of(&self.path, &name)
    }
}

fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// The same for the same content: no owner and no time.
fn header(bytes: u64, executable: bool) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    header.set_mode(if executable { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}

/// Tells the progress bar what is read.
struct Heard<'a> {
    inner: File,
    done: &'a mut u64,
    progress: &'a mut Progress,
}

impl io::Read for Heard<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        *self.done += read as u64;
        self.progress.set(*self.done);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn archive_unpacks_to_what_was_added() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("built-1234");
        let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at % 253) as u8).collect();
        fs::write(&program, &bytes).unwrap();
        let path = folder.path().join("pack.tar.gz");
        let mut archive = Archive::create(&path, 300_000).unwrap();
        archive.add_file("bin/test-gpu", &program, true).unwrap();
        archive.add_text("pack.env", "COMMIT='x'\n", false).unwrap();
        let names: Vec<_> = archive.entries().iter().map(|part| &part.name).collect();
        assert_eq!(names, ["bin/test-gpu", "pack.env"]);
        assert!(!path.exists(), "it is not whole yet");
        let whole = archive.finish().unwrap();
        assert_eq!(whole, part_of(&path, "pack.tar.gz").unwrap());

        let decoder = flate2::read::GzDecoder::new(File::open(&path).unwrap());
        let mut reader = tar::Archive::new(decoder);
        let mut seen = vec![];
        for entry in reader.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mode = entry.header().mode().unwrap();
            let mut content = vec![];
            entry.read_to_end(&mut content).unwrap();
            seen.push((name, mode, content));
        }
        assert_eq!(
            seen,
            [
                (format!("{NAME}/bin/test-gpu"), 0o755, bytes),
                (format!("{NAME}/pack.env"), 0o644, b"COMMIT='x'\n".to_vec()),
            ]
        );
    }

    #[test]
    fn missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = Archive::create(&folder.path().join("a.tar.gz"), 1).unwrap();
        let error = archive
            .add_file("bin/x", &folder.path().join("nothing"), true)
            .unwrap_err();
        assert!(
            error.to_string().contains("nothing cannot be read"),
            "{error}"
        );
    }
}
