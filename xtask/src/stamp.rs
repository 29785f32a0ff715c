//! A checksum stamp: a small file beside a large one that says which bytes were verified, so that the large file
//! is read in full once and not at every start.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

/// What was verified, and how the file looked then.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamp {
    /// SHA-256 in lower-case hexadecimal.
    sha256: String,
    /// Length in bytes.
    bytes: u64,
    /// Time of the last change, in nanoseconds since 1970.
    modified_ns: u128,
}

impl Stamp {
    /// A stamp for a file with this checksum, as it looks now.
    pub fn of(sha256: &str, metadata: &Metadata) -> io::Result<Stamp> {
        // A time before 1970 is possible and harmless: it reads as 0 both times.
        let modified_ns = metadata
            .modified()?
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        Ok(Stamp {
            sha256: sha256.to_owned(),
            bytes: metadata.len(),
            modified_ns,
        })
    }

    /// The stamp beside `file`, if there is one that can be read.
    pub fn read(file: &Path) -> Option<Stamp> {
        Stamp::parse(&fs::read_to_string(path_beside(file)).ok()?)
    }

    /// Writes the stamp beside `file`. Whole or not at all: a torn stamp does not parse.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        fs::write(
            path_beside(file),
            format!("{} {} {} end\n", self.sha256, self.bytes, self.modified_ns),
        )
    }

    fn parse(text: &str) -> Option<Stamp> {
        let mut words = text.split_whitespace();
        let stamp = Stamp {
            sha256: words.next()?.to_owned(),
            bytes: words.next()?.parse().ok()?,
            modified_ns: words.next()?.parse().ok()?,
        };
        (words.next()? == "end" && words.next().is_none()).then_some(stamp)
    }
}

fn path_beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".verified");
    PathBuf::from(name)
}

/// SHA-256 of a whole file, in lower-case hexadecimal; `read_so_far` hears the bytes read so far.
pub fn sha256_of(file: &Path, mut read_so_far: impl FnMut(u64)) -> io::Result<String> {
    let mut file = File::open(file)?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        match file.read(&mut block) {
            Ok(0) => return Ok(hexadecimal(hasher)),
            Ok(bytes) => {
                hasher.update(&block[..bytes]);
                total += bytes as u64;
                read_so_far(total);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The digest as it is usually written.
pub fn hexadecimal(hasher: Sha256) -> String {
    hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // The first example of FIPS 180-2, appendix B.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn checksum_is_the_published_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let mut heard = 0;
        assert_eq!(sha256_of(&file, |bytes| heard = bytes).unwrap(), ABC);
        assert_eq!(heard, 3);
    }

    #[test]
    fn stamp_survives_writing_and_reading() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        fs::write(&file, "abc").unwrap();
        assert_eq!(Stamp::read(&file), None);
        let stamp = Stamp::of(ABC, &file.metadata().unwrap()).unwrap();
        stamp.write(&file).unwrap();
        assert_eq!(Stamp::read(&file), Some(stamp));
    }

    #[test]
    fn changed_file_no_longer_fits_its_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("abc");
        fs::write(&file, "abc").unwrap();
        let before = Stamp::of(ABC, &file.metadata().unwrap()).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert_ne!(Stamp::of(ABC, &file.metadata().unwrap()).unwrap(), before);
        fs::write(&file, "abcd").unwrap();
        assert_ne!(Stamp::of(ABC, &file.metadata().unwrap()).unwrap(), before);
    }

    #[test]
    fn torn_stamp_is_no_stamp() {
        let whole = format!("{ABC} 3 1700000000000000000 end\n");
        assert!(Stamp::parse(&whole).is_some());
        for cut in 0..whole.trim_end().len() {
            assert_eq!(Stamp::parse(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(Stamp::parse(&format!("{whole} more")), None);
    }
}
