//! Debian's and Ubuntu's packages: whether they may be installed here, and installing them.

use std::cell::Cell;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The system by its os-release file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Distribution {
    /// Debian itself.
    Debian,
    /// Ubuntu and others that descend from Debian.
    DebianLike,
    /// Fedora, RHEL and their like.
    FedoraLike,
    /// Arch and its like.
    ArchLike,
    /// Another Linux, or no Linux.
    Other,
}

impl Distribution {
    /// The one that this runs on.
    pub fn here() -> Distribution {
        if !cfg!(target_os = "linux") {
            return Distribution::Other;
        }
        ["/etc/os-release", "/usr/lib/os-release"]
            .iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .map_or(Distribution::Other, |text| {
                Distribution::from_os_release(&text)
            })
    }

    fn from_os_release(text: &str) -> Distribution {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map_or("", |value| value.trim_matches(['"', '\'']))
        };
        let id = value("ID");
        let family: Vec<&str> = value("ID_LIKE").split_whitespace().chain([id]).collect();
        let is = |names: &[&str]| family.iter().any(|name| names.contains(name));
        match id {
            "debian" => Distribution::Debian,
            _ if is(&["debian", "ubuntu"]) => Distribution::DebianLike,
            _ if is(&["fedora", "rhel"]) => Distribution::FedoraLike,
            _ if is(&["arch"]) => Distribution::ArchLike,
            _ => Distribution::Other,
        }
    }

    /// Debian's package format and names.
    pub fn has_apt(self) -> bool {
        matches!(self, Distribution::Debian | Distribution::DebianLike)
    }
}

/// The right to install packages without a question.
pub struct Apt {
    with_sudo: bool,
    updated: Cell<bool>,
}

impl Apt {
    /// None where there is no apt-get, no right to use it without a password, or SUNFLECK_NO_INSTALL is set.
    pub fn find() -> Option<Apt> {
        let forbidden = std::env::var_os("SUNFLECK_NO_INSTALL")
            .is_some_and(|value| !value.is_empty() && value != "0");
        if forbidden || !Distribution::here().has_apt() || !succeeds("apt-get", &["--version"]) {
            return None;
        }
        let with_sudo = if is_root() {
            false
        } else if succeeds("sudo", &["-n", "true"]) {
            true
        } else {
            return None;
        };
        Some(Apt {
            with_sudo,
            updated: Cell::new(false),
        })
    }

    /// Refreshes the lists of packages, once.
    pub fn update(&self) {
        if !self.updated.replace(true) {
            // Lists that can't be refreshed may still be good enough, so a failure here isn't the end.
            self.run(&["update"]).ok();
        }
    }

    /// Installs packages; what apt-get prints goes to stderr.
    pub fn install(&self, packages: &[&str]) -> Result<()> {
        self.update();
        let mut arguments = vec!["install", "-y", "--no-install-recommends"];
        arguments.extend(packages);
        self.run(&arguments).with_context(|| {
            format!(
                "{} could not be installed; try by hand: {}",
                packages.join(" "),
                by_hand(packages)
            )
        })
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut command = if self.with_sudo {
            // env behind sudo, because sudo drops variables that are set before it.
            let mut command = Command::new("sudo");
            command.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
            command
        } else {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        // Another apt may be at work on a machine that has just started.
        command
            .args(["-q", "-o", "DPkg::Lock::Timeout=120"])
            .args(arguments);
        command.stdin(Stdio::null()).stdout(std::io::stderr());
        eprintln!("running apt-get {}", arguments.join(" "));
        let status = command.status().context("apt-get did not start")?;
        ensure!(
            status.success(),
            "apt-get {} failed ({status})",
            arguments.join(" ")
        );
        Ok(())
    }
}

/// The command for a user who installs packages himself.
pub fn by_hand(packages: &[&str]) -> String {
    format!(
        "sudo apt-get update && sudo apt-get install -y {}",
        packages.join(" ")
    )
}

/// How to get a Vulkan driver that needs no GPU, for a user who installs it himself.
pub fn driver_by_hand(distribution: Distribution) -> String {
    match distribution {
        Distribution::Debian | Distribution::DebianLike => by_hand(DRIVER_PACKAGES),
        Distribution::FedoraLike => "sudo dnf install -y mesa-vulkan-drivers vulkan-loader".into(),
        Distribution::ArchLike => "sudo pacman -S --needed vulkan-swrast vulkan-icd-loader".into(),
        Distribution::Other if cfg!(target_os = "linux") => {
            "install your distribution's Vulkan loader and Mesa's software Vulkan driver (lavapipe)"
                .into()
        }
        Distribution::Other => "install or update the graphics driver".into(),
    }
}

/// Mesa's Vulkan drivers, with lavapipe that runs on the CPU, and the Vulkan loader.
pub const DRIVER_PACKAGES: &[&str] = &["mesa-vulkan-drivers", "libvulkan1"];

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_told_apart() {
        let of = Distribution::from_os_release;
        assert_eq!(
            of("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"),
            Distribution::Debian
        );
        assert_eq!(of("ID=ubuntu\nID_LIKE=debian\n"), Distribution::DebianLike);
        assert_eq!(
            of("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"),
            Distribution::DebianLike
        );
        assert_eq!(
            of("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n"),
            Distribution::FedoraLike
        );
        assert_eq!(of("ID=fedora\n"), Distribution::FedoraLike);
        assert_eq!(of("ID=arch\n"), Distribution::ArchLike);
        assert_eq!(of("VERSION_ID=1\nID=nixos\n"), Distribution::Other);
        assert_eq!(of(""), Distribution::Other);
    }

    #[test]
    fn command_by_hand_is_complete() {
        assert_eq!(
            driver_by_hand(Distribution::Debian),
            "sudo apt-get update && sudo apt-get install -y mesa-vulkan-drivers libvulkan1"
        );
    }
}
