//! The npm package `sunfleck`: the crate `sunfleck-wasm` compiled, its glue, the TypeScript around it, packed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use flate2::{Compression, write::GzEncoder};

use crate::{licences, npm, repository, toolchain};

/// What a page may have to download for the package, compressed; and with grammars.
const MOST_BYTES: usize = 1_500_000;
const MOST_BYTES_WITH_GRAMMARS: usize = 2_000_000;
const MODULE: &str = "sunfleck_wasm";

/// What was built.
pub struct WebPackage {
    /// The archive that npm installs.
    pub archive: PathBuf,
    /// Bytes of JavaScript and WebAssembly without grammars, compressed with gzip.
    pub compressed: usize,
}

/// Builds the package in `wasm/dist` and packs it.
pub fn build() -> Result<WebPackage> {
    npm::ensure_node()?;
    toolchain::ensure_browser_target()?;
    let folder = repository::root().join("wasm");
    let target = repository::target_folder()?;

    npm::install(&folder)?;
    let dist = folder.join("dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)
            .with_context(|| format!("{} can't be emptied", dist.display()))?;
    }
    // The same scripts around two modules: grammars are a part that most pages do not need.
    let whole = dist.join("grammar");
    compile(&["--features", "grammar"], &folder)?;
    npm::run(npm::tool(&folder, "typescript/bin/tsc").args([
        "--project",
        "tsconfig.json",
        "--outDir",
        "dist/grammar",
    ]))?;
    copy_folder(&folder.join("ts/glue"), &whole.join("glue"))?;
    let with_grammars = compressed_bytes(&whole)?;
    compile(&[], &folder)?;
    npm::run(npm::tool(&folder, "typescript/bin/tsc").args(["--project", "tsconfig.json"]))?;
    copy_folder(&folder.join("ts/glue"), &dist.join("glue"))?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        copy(&repository::root().join(licence), &folder.join(licence))?;
    }
    fs::write(folder.join("THIRD-PARTY.md"), licences::of_browser_build()?)?;

    let compressed = compressed_bytes(&dist)? - with_grammars;
    for (bytes, most) in [
        (compressed, MOST_BYTES),
        (with_grammars, MOST_BYTES_WITH_GRAMMARS),
    ] {
        ensure!(
            bytes <= most,
            "the package has {bytes} bytes of code compressed, over its budget of {most}"
        );
    }
    Ok(WebPackage {
        archive: pack(&folder, &target.join("web-package"))?,
        compressed,
    })
}

/// Compiles the module and writes the script around it to `ts/glue` in `folder`.
fn compile(features: &[&str], folder: &Path) -> Result<()> {
    let mut build = repository::cargo();
    build
        .args(["build", "--package", "sunfleck-wasm", "--profile", "web"])
        .args(["--target", toolchain::BROWSER_TARGET])
        .args(features);
    npm::run(&mut build)?;
    let module = repository::target_folder()?
        .join(toolchain::BROWSER_TARGET)
        .join("web")
        .join(MODULE)
        .with_extension("wasm");
    let mut bindgen = repository::cargo();
    bindgen
        .args(["run", "--quiet", "--package", "xtask-bindgen", "--"])
        .arg(&module)
        .arg(MODULE)
        .arg(folder.join("ts/glue"));
    npm::run(&mut bindgen)
}

/// Where the archive of the package that was built last is.
pub fn archive() -> Result<PathBuf> {
    let name = format!("sunfleck-{}.tgz", repository::version()?);
    Ok(repository::target_folder()?.join("web-package").join(name))
}

/// Runs `npm pack` and gives the archive's path.
fn pack(folder: &Path, into: &Path) -> Result<PathBuf> {
    fs::create_dir_all(into).with_context(|| format!("{} can't be made", into.display()))?;
    let mut command: Command = npm::npm();
    let output = command
        .args(["pack", "--silent", "--pack-destination"])
        .arg(into)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("npm did not start")?;
    ensure!(
        output.status.success(),
        "npm pack failed ({})",
        output.status
    );
    let name = String::from_utf8_lossy(&output.stdout);
    Ok(into.join(name.trim()))
}

/// Bytes of every script and module below `folder` after gzip.
fn compressed_bytes(folder: &Path) -> Result<usize> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            total += compressed_bytes(&path)?;
        } else if path
            .extension()
            .is_some_and(|end| end == "js" || end == "wasm")
        {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&fs::read(&path)?)?;
            total += encoder.finish()?.len();
        }
    }
    Ok(total)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("{} can't be made", to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("{} can't be copied to {}", from.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_modules_count_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.js"), vec![b'a'; 100_000]).unwrap();
        fs::write(folder.path().join("a.d.ts"), "types").unwrap();
        let script = compressed_bytes(folder.path()).unwrap();
        assert!((50..1000).contains(&script), "{script}");
        let inside = folder.path().join("glue");
        fs::create_dir(&inside).unwrap();
        let noise: Vec<u8> = (0..1000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        fs::write(inside.join("b.wasm"), noise).unwrap();
        assert!(compressed_bytes(folder.path()).unwrap() > script + 300);
    }
}
