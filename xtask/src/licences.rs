//! The licences of the crates that are compiled into the browser build.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{repository, toolchain};

/// A page that lists each crate with its licence, and the licences' texts, equal ones once.
pub fn of_browser_build() -> Result<String> {
    let tree = output(&[
        "tree",
        "--package",
        "sunfleck-wasm",
        "--target",
        toolchain::BROWSER_TARGET,
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}\t{l}",
    ])?;
    let metadata: Value = serde_json::from_str(&output(&[
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        toolchain::BROWSER_TARGET,
    ])?)
    .context("cargo metadata printed no JSON")?;
    let mut folders = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let text = |field: &str| package[field].as_str().unwrap_or_default();
        let folder = Path::new(text("manifest_path")).parent();
        let key = format!("{} v{}", text("name"), text("version"));
        folders.insert(key, folder.map(PathBuf::from).unwrap_or_default());
    }
    Ok(page(&crates_in(&tree), |name| {
        folders
            .get(name)
            .map(|folder| texts_in(folder))
            .unwrap_or_default()
    }))
}

/// Name with version, and licence, of each crate from a registry; those of this clone have a path behind them.
fn crates_in(tree: &str) -> BTreeSet<(String, String)> {
    tree.lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(name, _)| !name.contains('('))
        .map(|(name, licence)| {
            (
                name.trim().to_owned(),
                licence.trim_end_matches(" (*)").to_owned(),
            )
        })
        .collect()
}

fn page(crates: &BTreeSet<(String, String)>, texts: impl Fn(&str) -> Vec<String>) -> String {
    let mut page = String::from(
        "# Third-party code in the WebAssembly module\n\n| crate | licence |\n|---|---|\n",
    );
    let mut by_text: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, licence) in crates {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(page, "| {name} | {licence} |");
        for text in texts(name) {
            by_text.entry(text).or_default().push(name);
        }
    }
    for (text, names) in by_text {
        let _ = write!(
            page,
            "\n## {}\n\n```text\n{}\n```\n",
            names.join(", "),
            text.trim_end()
        );
    }
    page
}

/// The licence files of a crate.
fn texts_in(folder: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_uppercase();
            ["LICENSE", "LICENCE", "COPYING", "NOTICE"]
                .iter()
                .any(|start| name.starts_with(start))
        })
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect()
}

fn output(arguments: &[&str]) -> Result<String> {
    let output = repository::cargo()
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo did not start")?;
    ensure!(
        output.status.success(),
        "cargo {} failed ({})",
        arguments[0],
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_of_the_clone_are_left_out_and_repeated_ones_counted_once() {
        let tree = "sunfleck-wasm v0.1.0 (/clone/wasm)\tMIT\nhalf v2.7.1\tMIT OR Apache-2.0\nhalf v2.7.1\tMIT OR Apache-2.0 (*)\n";
        let expected = BTreeSet::from([("half v2.7.1".into(), "MIT OR Apache-2.0".into())]);
        assert_eq!(crates_in(tree), expected);
    }

    #[test]
    fn equal_texts_are_shown_once_with_all_names() {
        let crates = BTreeSet::from([("a v1".into(), "MIT".into()), ("b v2".into(), "MIT".into())]);
        let page = page(&crates, |_| vec!["Permission is granted".into()]);
        assert_eq!(page.matches("Permission is granted").count(), 1);
        assert!(page.contains("## a v1, b v2") && page.contains("| b v2 | MIT |"));
    }
}
