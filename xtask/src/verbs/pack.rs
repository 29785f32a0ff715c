//! `cargo xtask pack`: builds tests and benchmarks, and packs them for a GPU machine that has no internet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::model;
use crate::pack::{self, Archive, Content, Manifest, PackRequest, Selection};
use crate::repository;

/// Scripts of the clone that run beside the programs, with their paths in the pack.
const SCRIPTS: &[(&str, &str)] = &[(
    "benches/peers/torch_attention.py",
    "peers/torch_attention.py",
)];

/// Writes archive, parts of the model and manifest, and prints their paths and what to do with them.
pub fn run(request: &PackRequest) -> Result<ExitCode> {
    ensure!(
        cfg!(target_os = "linux"),
        "`pack` packs programs for Linux and does not build them for another system: run it on Linux, in a virtual \
         machine or a container"
    );
    let selection = Selection::of(request, &repository::tests()?, &repository::benchmarks()?)?;
    // The model comes first: a download that fails says so in seconds, a first build takes minutes.
    let model = request.model.then(model::chosen).transpose()?;
    let target = repository::target_folder()?;
    let out = match &request.out {
        Some(folder) => std::path::absolute(folder).context("--out names no folder")?,
        None => target.join(pack::NAME),
    };
    fs::create_dir_all(&out).with_context(|| format!("{} cannot be made", out.display()))?;
    let work = target.join(format!("{}-work", pack::NAME));
    if work.exists() {
        fs::remove_dir_all(&work)
            .with_context(|| format!("{} cannot be removed", work.display()))?;
    }
    fs::create_dir_all(&work).with_context(|| format!("{} cannot be made", work.display()))?;

    let loader = match request.loader {
        true => pack::libraries(&work)?,
        false => vec![],
    };
    let built = repository::build(&selection.cargo_arguments())?;
    let mut programs = vec![];
    let mut stripped = true;
    for program in &built {
        let name = pack::file_name(&program.kind, &program.name);
        let path = work.join(&name);
        stripped &= strip(&program.path, &path)?;
        programs.push((format!("bin/{name}"), path));
    }
    if !stripped {
        eprintln!("the programs keep their symbols: there is no `strip` here (package binutils)");
    }

    remove_old(&out)?;
    let mut content = Content::default();
    if let Some(model) = &model {
        let name = format!("{}.model", pack::NAME);
        content.model = Some(pack::split(model, &out, &name, request.part_size)?);
    }
    let manifest = manifest(&selection, stripped)?;
    let path = out.join(format!("{}.tar.gz", pack::NAME));
    let all = programs.iter().chain(&loader).map(|(_, path)| path);
    let mut archive = Archive::create(&path, total(all))?;
    for (name, path) in &programs {
        archive.add_file(name, path, true)?;
    }
    for (name, path) in &loader {
        archive.add_file(name, path, false)?;
    }
    for (from, name) in SCRIPTS {
        archive.add_file(name, &repository::root().join(from), false)?;
    }
    archive.add_text("run.sh", pack::RUN, true)?;
    archive.add_text("pack.env", &manifest.shell(), false)?;
    if content.model.is_some() {
        archive.add_text("MODEL", &content.model_checksums(), false)?;
    }
    content.files = archive.entries().to_vec();
    archive.add_text("SHA256SUMS", &content.checksums(), false)?;
    let inside = format!("{:#}\n", manifest.json(&content, None));
    archive.add_text("manifest.json", &inside, false)?;
    let whole = archive.finish()?;
    let beside = out.join(format!("{}.json", pack::NAME));
    let json = format!("{:#}\n", manifest.json(&content, Some(&whole)));
    fs::write(&beside, json).with_context(|| format!("{} cannot be written", beside.display()))?;
    fs::remove_dir_all(&work).ok();

    crate::print::line(beside.display())?;
    let parts = content.model.iter().flat_map(|(_, parts)| parts);
    for part in [&whole].into_iter().chain(parts) {
        let file = out.join(&part.name);
        crate::print::line(format_args!("{}  {} bytes", file.display(), part.bytes))?;
    }
    eprintln!(
        "copy these files into one folder of the GPU machine, and there: tar xzf {0}.tar.gz && sh {0}/run.sh all",
        pack::NAME
    );
    Ok(ExitCode::SUCCESS)
}

/// Copies a program without its symbols; false where there is no `strip`, and the copy is as it was.
fn strip(from: &Path, to: &Path) -> Result<bool> {
    let output = Command::new("strip")
        .args(["--strip-unneeded", "-o"])
        .args([to, from])
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if output.status.success() => Ok(true),
        Ok(output) => bail!(
            "strip {} failed: {}",
            from.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ),
        Err(_) => {
            fs::copy(from, to).with_context(|| format!("{} cannot be copied", from.display()))?;
            Ok(false)
        }
    }
}

/// Files of an earlier pack: parts of another size would be taken for parts of this one.
fn remove_old(out: &Path) -> Result<()> {
    let entries =
        fs::read_dir(out).with_context(|| format!("{} cannot be listed", out.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(pack::NAME).unwrap_or_default();
        let of_pack = matches!(rest, ".tar.gz" | ".tar.unfinished" | ".json");
        if path.is_file() && (of_pack || rest.starts_with(".model.part-")) {
            fs::remove_file(&path)
                .with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

fn total<'a>(files: impl Iterator<Item = &'a PathBuf>) -> u64 {
    let lengths = files.filter_map(|file| file.metadata().ok());
    lengths.map(|metadata| metadata.len()).sum()
}

fn manifest(selection: &Selection, stripped: bool) -> Result<Manifest> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let root = repository::root();
    Ok(Manifest {
        version: repository::version()?,
        commit: printed(Command::new("git").arg("-C").arg(root).args([
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
        ])),
        date: printed(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])).unwrap_or_default(),
        processor: std::env::consts::ARCH.into(),
        c_library: printed(Command::new("getconf").arg("GNU_LIBC_VERSION")),
        rustc: printed(Command::new(rustc).arg("--version")).unwrap_or_default(),
        needs_model: selection.needs_model(),
        stripped,
    })
}

/// What a command prints, where it runs.
fn printed(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_an_earlier_pack_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let old = [
            "sunfleck-pack.tar.gz",
            "sunfleck-pack.model.part-03",
            "sunfleck-pack.json",
        ];
        let others = ["notes.txt", "sunfleck-pack.md", "results.tar.gz"];
        for name in old.iter().chain(&others) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        remove_old(folder.path()).unwrap();
        assert!(old.iter().all(|name| !folder.path().join(name).exists()));
        assert!(others.iter().all(|name| folder.path().join(name).exists()));
    }

    #[test]
    fn scripts_that_are_packed_exist() {
        for (from, _) in SCRIPTS {
            assert!(repository::root().join(from).is_file(), "{from}");
        }
    }
}
