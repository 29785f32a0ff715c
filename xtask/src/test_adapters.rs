//! The adapters that tests run on: installed where they can be, and named in the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::apt::{Apt, DRIVER_PACKAGES, Distribution, by_hand};
use crate::vulkan_driver;

/// Carries SwiftShader's ICD file on Debian.
const SWIFTSHADER_PACKAGE: &str = "chromium";

type Environment = Vec<(&'static str, OsString)>;

/// The environment that shows the tests their adapters: lavapipe and SwiftShader where both can be had, since two
/// drivers with different subgroup sizes find more than one.
pub fn environment() -> Result<Environment> {
    let named = std::env::var_os("SUNFLECK_TEST_ADAPTERS").is_some_and(|set| !set.is_empty());
    if named || vulkan_driver::chosen_by_user() {
        eprintln!("adapters: as SUNFLECK_TEST_ADAPTERS and VK_DRIVER_FILES in the environment say");
        return Ok(vec![]);
    }
    if cfg!(target_os = "linux") {
        install_missing()?;
    }
    let found = (vulkan_driver::lavapipe(), vulkan_driver::swiftshader());
    let environment = environment_for(found.0, found.1);
    if environment.is_empty() {
        eprintln!(
            "adapters: lavapipe and SwiftShader are not both here, so tests run on every adapter that is"
        );
    } else {
        eprintln!("adapters: lavapipe and SwiftShader");
    }
    Ok(environment)
}

/// Empty unless both are there: then the tests take what they find.
fn environment_for(lavapipe: Option<PathBuf>, swiftshader: Option<PathBuf>) -> Environment {
    let (Some(lavapipe), Some(swiftshader)) = (lavapipe, swiftshader) else {
        return vec![];
    };
    let mut environment = vulkan_driver::only(&[&lavapipe, &swiftshader]);
    // lavapipe's adapter calls itself llvmpipe, after the compiler inside.
    environment.push(("SUNFLECK_TEST_ADAPTERS", "llvmpipe,SwiftShader".into()));
    environment
}

/// Installs the drivers that are not here, where that is allowed.
pub fn install_missing() -> Result<()> {
    let missing = || {
        let mut packages = vec![];
        if vulkan_driver::lavapipe().is_none() {
            packages.extend(DRIVER_PACKAGES);
        }
        // Ubuntu's chromium is a snap, without the file that is wanted.
        if vulkan_driver::swiftshader().is_none() && Distribution::here() == Distribution::Debian {
            packages.push(SWIFTSHADER_PACKAGE);
        }
        packages
    };
    let packages = missing();
    if packages.is_empty() {
        return Ok(());
    }
    let Some(apt) = Apt::find() else {
        if Distribution::here().has_apt() {
            eprintln!(
                "adapters: not all test drivers are here and none may be installed. Do: {}",
                by_hand(&packages)
            );
        }
        return Ok(());
    };
    eprintln!("installing the software Vulkan drivers that the tests run on");
    apt.install(&packages)?;
    let still = missing();
    if !still.is_empty() {
        bail!(
            "{} are installed, but hold no Vulkan driver where it was expected",
            still.join(" and ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_drivers_or_none_are_demanded() {
        let (one, other) = (
            Some(PathBuf::from("/l.json")),
            Some(PathBuf::from("/s.json")),
        );
        assert!(environment_for(one.clone(), None).is_empty());
        assert!(environment_for(None, other.clone()).is_empty());
        let both = environment_for(one, other);
        assert!(both.contains(&("SUNFLECK_TEST_ADAPTERS", "llvmpipe,SwiftShader".into())));
        assert!(both.iter().any(|(name, _)| *name == "VK_DRIVER_FILES"));
    }
}
