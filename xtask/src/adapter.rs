//! The adapter: a GPU, or a software driver that is installed where there is none.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::apt::{Apt, DRIVER_PACKAGES, Distribution, driver_by_hand};
use crate::vulkan_driver;

/// An adapter as `sunfleck adapters --json` lists it.
#[derive(Debug, PartialEq)]
pub struct Adapter {
    name: String,
    backend: String,
    device_type: String,
    driver: String,
}

impl fmt::Display for Adapter {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        write!(
            formatter,
            "{} ({}, {})",
            self.name, self.backend, self.device_type
        )?;
        if self.driver.is_empty() {
            Ok(())
        } else {
            write!(formatter, ", driver {}", self.driver)
        }
    }
}

/// The adapters that `program` sees; where it sees none, a software driver is installed if that is allowed.
pub fn ensure(program: &Path) -> Result<Vec<Adapter>> {
    let adapters = list(program)?;
    if !adapters.is_empty() {
        return Ok(adapters);
    }
    // No package helps while the loader is told to look at certain files only.
    if vulkan_driver::chosen_by_user() {
        bail!(
            "no GPU adapter was found: VK_DRIVER_FILES or VK_ICD_FILENAMES is set and hides every other driver. Unset it, or \
             correct the files it names"
        );
    }
    let by_hand = driver_by_hand(Distribution::here());
    let Some(apt) = Apt::find() else {
        bail!(
            "no GPU adapter was found. Needed is a driver for Vulkan, Metal or DirectX 12; one that runs on the CPU will do. Do: {by_hand}"
        );
    };
    eprintln!("no GPU adapter was found: installing Mesa's Vulkan driver for CPUs");
    apt.install(DRIVER_PACKAGES)?;
    let adapters = list(program)?;
    if adapters.is_empty() {
        bail!(
            "no GPU adapter was found, although {} are installed: see what `vulkaninfo --summary` (package vulkan-tools) says",
            DRIVER_PACKAGES.join(" and ")
        );
    }
    Ok(adapters)
}

fn list(program: &Path) -> Result<Vec<Adapter>> {
    let mut command = Command::new(program);
    command
        .args(["adapters", "--json"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    vulkan_driver::quiet(&mut command);
    let output = command
        .output()
        .with_context(|| format!("{} did not start", program.display()))?;
    parse(&output.stdout).with_context(|| {
        format!(
            "`{} adapters --json` did not list the adapters ({})",
            program.display(),
            output.status
        )
    })
}

/// Reads a JSON array of objects. A driver may give no name or an odd one; only the array itself is insisted on.
fn parse(json: &[u8]) -> Result<Vec<Adapter>> {
    if json.trim_ascii().is_empty() {
        bail!("a JSON array was expected, nothing was printed");
    }
    let value: Value = serde_json::from_slice(json).context("a JSON array was expected")?;
    let list = value
        .as_array()
        .context("a JSON array was expected, other JSON was printed")?;
    let text = |adapter: &Value, key: &str| adapter[key].as_str().unwrap_or_default().to_owned();
    let adapter = |value: &Value| Adapter {
        name: text(value, "name"),
        backend: text(value, "backend"),
        device_type: text(value, "device_type"),
        driver: text(value, "driver"),
    };
    Ok(list.iter().map(adapter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapters_are_read_and_shown() {
        let json = br#"[{"name":"llvmpipe","backend":"vulkan","device_type":"Cpu","driver":"Mesa 22.3.6"}]"#;
        let adapters = parse(json).unwrap();
        assert_eq!(adapters.len(), 1);
        assert_eq!(
            adapters[0].to_string(),
            "llvmpipe (vulkan, Cpu), driver Mesa 22.3.6"
        );
    }

    #[test]
    fn empty_array_means_no_adapter() {
        assert_eq!(parse(b"[]\n").unwrap(), []);
    }

    #[test]
    fn anything_but_an_array_is_an_error() {
        for bad in ["", " \n", "{}", "no adapter", "[1"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn fields_may_be_missing() {
        assert_eq!(
            parse(b"[{\"name\":\"a\"}]").unwrap()[0].to_string(),
            "a (, )"
        );
    }
}
