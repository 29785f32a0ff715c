//! The browsers that the page is tested in.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apt::{Apt, Distribution, by_hand};

/// Where the browsers are.
pub struct Browsers {
    /// Chromium, whose SwiftShader is its GPU.
    pub chromium: PathBuf,
    /// Firefox, which takes lavapipe.
    pub firefox: PathBuf,
}

const CHROMIUM: &[&str] = &[
    "/usr/bin/chromium",
    "/usr/bin/chromium-browser",
    "/usr/bin/google-chrome",
];
const FIREFOX: &[&str] = &["/usr/bin/firefox-esr", "/usr/bin/firefox"];

/// Finds both, installs what is missing on Debian, and gives none where they can't be had: then the page is tested
/// by CI alone.
pub fn ensure() -> Result<Option<Browsers>> {
    let found = || {
        (
            first("SUNFLECK_CHROMIUM", CHROMIUM),
            first("SUNFLECK_FIREFOX", FIREFOX),
        )
    };
    let mut missing = vec![];
    let (chromium, firefox) = found();
    if chromium.is_none() {
        missing.push("chromium");
    }
    if firefox.is_none() {
        missing.push("firefox-esr");
    }
    // Ubuntu's packages of that name are snaps, which do not start in a container.
    if !missing.is_empty() && Distribution::here() == Distribution::Debian {
        let Some(apt) = Apt::find() else {
            bail!(
                "the page is tested in {}. Do: {}",
                missing.join(" and "),
                by_hand(&missing)
            );
        };
        eprintln!("installing the browsers that the page is tested in");
        apt.install(&missing)?;
    }
    let (Some(chromium), Some(firefox)) = found() else {
        eprintln!(
            "browsers: Chromium and Firefox are not both here, so the page is not tested; SUNFLECK_CHROMIUM and \
             SUNFLECK_FIREFOX name their programs"
        );
        return Ok(None);
    };
    Ok(Some(Browsers { chromium, firefox }))
}

fn first(variable: &str, places: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let places = places.iter().map(PathBuf::from);
    named.into_iter().chain(places).find(|path| path.is_file())
}
