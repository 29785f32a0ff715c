//! What to pack: the arguments of `cargo xtask pack`, and which of the crate's targets they mean.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::repository::Target;

/// Printed by `cargo xtask pack --help`.
pub const HELP: &str = "\
Usage: cargo xtask pack [--only NAME]... [--with-loader] [--with-model] [--part-size SIZE] [--out FOLDER]

Builds the tests and benchmarks in release and packs them with a script that runs them on another x86 or Arm Linux
machine of the same kind as this one, which needs no internet, no Rust and no root: copy the files there, then
`tar xzf sunfleck-pack.tar.gz && sh sunfleck-pack/run.sh all`. docs/remote-gpu.md says more.
  --only NAME        only this test or benchmark (gpu, attention, ...); may be given several times
  --with-loader      also Debian's Vulkan loader, for machines that have a driver and no loader (needs apt-get here)
  --with-model       also the model file (SUNFLECK_MODEL, or the cached one), and the tests and benchmarks that need it
  --part-size SIZE   split the model file into parts of at most SIZE, for example 60MiB
  --out FOLDER       where the files go (default: sunfleck-pack in cargo's target folder)

The program `sunfleck` is always packed. A test or benchmark that needs a model is packed with --with-model, or
where --only names it: then set SUNFLECK_MODEL=FILE.gguf on the other machine.";

/// Tests that run on an adapter. The others have nothing to say about a GPU.
const TESTS_OF_ADAPTERS: &[&str] = &["gpu", "model"];

/// Less would make thousands of files of a model.
const LEAST_PART: u64 = 1 << 20;

/// Arguments of `pack`.
#[derive(Debug, Default, PartialEq)]
pub struct PackRequest {
    /// Names of tests and benchmarks; all where it is empty.
    pub only: Vec<String>,
    /// With the Vulkan loader.
    pub loader: bool,
    /// With the model file.
    pub model: bool,
    /// Most bytes of a part of the model file.
    pub part_size: Option<u64>,
    /// Folder for the files.
    pub out: Option<PathBuf>,
}

impl PackRequest {
    /// Reads what follows `pack`; the error is one sentence for the user.
    pub fn parse(arguments: &[OsString]) -> Result<PackRequest, String> {
        let mut request = PackRequest::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = |what: &str| {
                let value = arguments.next();
                value.ok_or_else(|| format!("{} needs {what}", argument.display()))
            };
            match argument.to_str() {
                Some("--with-loader") => request.loader = true,
                Some("--with-model") => request.model = true,
                Some("--only") => {
                    let name = value("a NAME")?;
                    request.only.push(name.to_string_lossy().into_owned());
                }
                Some("--part-size") => {
                    let size = value("a SIZE")?;
                    request.part_size = Some(bytes(&size.to_string_lossy())?);
                }
                Some("--out") => request.out = Some(value("a FOLDER")?.into()),
                _ => {
                    return Err(format!(
                        "`pack` takes --only NAME, --with-loader, --with-model, --part-size SIZE and --out FOLDER; \
                         given {argument:?}"
                    ));
                }
            }
        }
        if request.part_size.is_some() && !request.model {
            return Err(
                "--part-size splits the model file: give --with-model too, or leave it out".into(),
            );
        }
        Ok(request)
    }
}

/// `60MiB`, `60 MB`, `1GiB` or plain bytes.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size; write one like 60MiB, 60MB or 62914560");
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "kB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(unit).ok_or_else(wrong)?;
    if bytes < LEAST_PART {
        return Err(format!("a part of {text} is too small; at least 1MiB"));
    }
    Ok(bytes)
}

/// The targets that are packed.
#[derive(Debug, PartialEq)]
pub struct Selection {
    /// Integration tests.
    pub tests: Vec<Target>,
    /// Benchmarks.
    pub benchmarks: Vec<Target>,
}

impl Selection {
    /// What `request` means among the targets that there are.
    pub fn of(request: &PackRequest, tests: &[Target], benchmarks: &[Target]) -> Result<Selection> {
        for name in &request.only {
            let mut there = tests.iter().chain(benchmarks);
            if !there.any(|target| target.name == *name) {
                let names: Vec<_> = tests.iter().chain(benchmarks).collect();
                let names: Vec<_> = names.iter().map(|target| target.name.as_str()).collect();
                bail!(
                    "--only {name}: no test or benchmark has that name; there are: {}",
                    names.join(", ")
                );
            }
        }
        let wanted = |target: &&Target| match request.only.is_empty() {
            true => request.model || !target.model,
            false => request.only.contains(&target.name),
        };
        let on_adapter = |target: &&Target| {
            !request.only.is_empty() || TESTS_OF_ADAPTERS.contains(&target.name.as_str())
        };
        let tests = tests.iter().filter(wanted).filter(on_adapter);
        Ok(Selection {
            tests: tests.cloned().collect(),
            benchmarks: benchmarks.iter().filter(wanted).cloned().collect(),
        })
    }

    /// File names in the pack of those that need a model file.
    pub fn needs_model(&self) -> Vec<String> {
        let tests = self.tests.iter().map(|test| ("test", test));
        let benchmarks = self.benchmarks.iter().map(|bench| ("bench", bench));
        tests
            .chain(benchmarks)
            .filter(|(_, target)| target.model)
            .map(|(kind, target)| file_name(kind, &target.name))
            .collect()
    }

    /// Arguments that make cargo build them all, and the program.
    pub fn cargo_arguments(&self) -> Vec<&str> {
        let mut arguments = vec!["--bin", "sunfleck"];
        for test in &self.tests {
            arguments.extend(["--test", &test.name]);
        }
        for benchmark in &self.benchmarks {
            arguments.extend(["--bench", &benchmark.name]);
        }
        arguments
    }
}

/// `sunfleck`, `test-gpu`, `bench-attention`: `run.sh` goes by these.
pub fn file_name(kind: &str, name: &str) -> String {
    match kind {
        "bin" => name.to_owned(),
        kind => format!("{kind}-{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PackRequest, String> {
        let words: Vec<_> = text.split_whitespace().map(OsString::from).collect();
        PackRequest::parse(&words)
    }

    fn target(name: &str, model: bool) -> Target {
        Target {
            name: name.into(),
            model,
        }
    }

    fn selected(line: &str) -> Result<String> {
        let tests = [
            target("bench", false),
            target("gpu", false),
            target("model", true),
        ];
        let benchmarks = [target("attention", false), target("generate", true)];
        let request = parse(line).unwrap();
        Ok(Selection::of(&request, &tests, &benchmarks)?
            .cargo_arguments()
            .join(" "))
    }

    #[test]
    fn options_are_read() {
        let request = parse(
            "--only gpu --with-model --only attention --part-size 60MiB --with-loader --out x",
        );
        assert_eq!(
            request.unwrap(),
            PackRequest {
                only: vec!["gpu".into(), "attention".into()],
                loader: true,
                model: true,
                part_size: Some(60 << 20),
                out: Some("x".into()),
            }
        );
        assert_eq!(parse("").unwrap(), PackRequest::default());
    }

    #[test]
    fn wrong_options_are_refused_with_what_is_right() {
        for (line, says) in [
            ("gpu", "--only NAME"),
            ("--only", "--only needs a NAME"),
            ("--with-model --part-size 60", "too small"),
            ("--with-model --part-size 60MiBs", "60MiB"),
            ("--with-model --part-size MiB", "is no size"),
            ("--with-model --part-size 99999999999GiB", "is no size"),
            ("--part-size 60MiB", "--with-model"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }

    #[test]
    fn sizes_are_read_in_both_systems() {
        assert_eq!(bytes("60MiB"), Ok(60 << 20));
        assert_eq!(bytes("60 MB"), Ok(60_000_000));
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("2000000"), Ok(2_000_000));
    }

    #[test]
    fn without_a_model_nothing_that_needs_one_is_packed() {
        assert_eq!(
            selected("").unwrap(),
            "--bin sunfleck --test gpu --bench attention"
        );
        assert_eq!(
            selected("--with-model").unwrap(),
            "--bin sunfleck --test gpu --test model --bench attention --bench generate"
        );
    }

    #[test]
    fn a_name_is_packed_whatever_it_needs() {
        assert_eq!(
            selected("--only generate").unwrap(),
            "--bin sunfleck --bench generate"
        );
        assert_eq!(
            selected("--only bench").unwrap(),
            "--bin sunfleck --test bench"
        );
    }

    #[test]
    fn names_of_programs_say_what_they_are() {
        assert_eq!(file_name("bin", "sunfleck"), "sunfleck");
        let selection = Selection {
            tests: vec![target("gpu", false), target("model", true)],
            benchmarks: vec![target("generate", true)],
        };
        assert_eq!(selection.needs_model(), ["test-model", "bench-generate"]);
    }

    #[test]
    fn unknown_name_is_answered_with_the_known() {
        let error = selected("--only gpus").unwrap_err().to_string();
        assert!(
            error.contains("bench, gpu, model, attention, generate"),
            "{error}"
        );
    }
}
