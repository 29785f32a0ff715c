//! What a pack holds: as JSON for programs and people, and as small files that a shell script reads.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::parts::Part;

/// Where a pack comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The crate's version.
    pub version: String,
    /// The commit, where there is a clone, with `-dirty` where files differ from it.
    pub commit: Option<String>,
    /// When it was packed, UTC.
    pub date: String,
    /// Processor: `x86_64`, `aarch64`.
    pub processor: String,
    /// The C library that the programs were linked with, as `getconf` names it.
    pub c_library: Option<String>,
    /// The Rust compiler.
    pub rustc: String,
    /// Programs that do nothing without a model file.
    pub needs_model: Vec<String>,
    /// Whether symbols were taken out of the programs.
    pub stripped: bool,
}

/// The files of a pack.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Content {
    /// Files in the archive.
    pub files: Vec<Part>,
    /// The model and its parts, which are beside the archive.
    pub model: Option<(Part, Vec<Part>)>,
}

impl Manifest {
    /// Everything, with the archive itself where it is written already.
    pub fn json(&self, content: &Content, archive: Option<&Part>) -> Value {
        let part =
            |part: &Part| json!({ "name": part.name, "bytes": part.bytes, "sha256": part.sha256 });
        let list = |parts: &[Part]| parts.iter().map(part).collect::<Vec<_>>();
        let model = content.model.as_ref().map(|(whole, parts)| {
            let mut value = part(whole);
            value["parts"] = json!(list(parts));
            value
        });
        json!({
            "version": self.version,
            "commit": self.commit,
            "date": self.date,
            "processor": self.processor,
            "c_library": self.c_library,
            "rustc": self.rustc,
            "needs_model": self.needs_model,
            "stripped": self.stripped,
            "archive": archive.map(part),
            "files": list(&content.files),
            "model": model,
        })
    }

    /// The variables that `run.sh` reads.
    pub fn shell(&self) -> String {
        let mut text = String::new();
        let needs_model = self.needs_model.join(" ");
        for (name, value) in [
            ("PACK_NEEDS_MODEL", needs_model.as_str()),
            ("PACK_VERSION", self.version.as_str()),
            ("PACK_COMMIT", self.commit.as_deref().unwrap_or_default()),
            ("PACK_DATE", &self.date),
            ("PACK_PROCESSOR", &self.processor),
            (
                "PACK_C_LIBRARY",
                self.c_library.as_deref().unwrap_or_default(),
            ),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name}='{}'", value.replace('\'', r"'\''"));
        }
        text
    }
}

impl Content {
    /// The files of the archive as `sha256sum -c` reads them.
    pub fn checksums(&self) -> String {
        let lines = self.files.iter();
        lines
            .map(|file| format!("{}  {}\n", file.sha256, file.name))
            .collect()
    }

    /// The model, then its parts, in the same form; empty without one.
    pub fn model_checksums(&self) -> String {
        let parts = self
            .model
            .iter()
            .flat_map(|(whole, parts)| [whole].into_iter().chain(parts));
        parts
            .map(|part| format!("{}  {}\n", part.sha256, part.name))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Part {
        Part {
            name: name.into(),
            bytes: 3,
            sha256: "ab".into(),
        }
    }

    fn content() -> Content {
        Content {
            files: vec![part("bin/sunfleck"), part("bin/test-gpu")],
            model: Some((
                part("my model.gguf"),
                vec![part("p.part-00"), part("p.part-01")],
            )),
        }
    }

    #[test]
    fn json_names_every_file_and_part() {
        let json = Manifest::default().json(&content(), Some(&part("pack.tar.gz")));
        assert_eq!(json["archive"]["name"], "pack.tar.gz");
        assert_eq!(json["files"][1]["name"], "bin/test-gpu");
        assert_eq!(json["model"]["name"], "my model.gguf");
        assert_eq!(json["model"]["parts"][1]["sha256"], "ab");
        let without = Manifest::default().json(&Content::default(), None);
        assert!(without["model"].is_null() && without["archive"].is_null());
    }

    #[test]
    fn checksums_have_the_form_of_sha256sum() {
        assert_eq!(
            content().checksums(),
            "ab  bin/sunfleck\nab  bin/test-gpu\n"
        );
        assert_eq!(
            content().model_checksums(),
            "ab  my model.gguf\nab  p.part-00\nab  p.part-01\n"
        );
        assert_eq!(Content::default().model_checksums(), "");
    }

    #[test]
    fn shell_variables_are_quoted() {
        let manifest = Manifest {
            version: "it's".into(),
            commit: Some("$(x)".into()),
            ..Default::default()
        };
        let text = manifest.shell();
        assert!(text.contains(r"PACK_VERSION='it'\''s'"), "{text}");
        assert!(text.contains("PACK_COMMIT='$(x)'"), "{text}");
    }
}
