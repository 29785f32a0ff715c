//! Compilers of other APIs, brought here for `cargo xtask portability`.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use anyhow::{Result, bail, ensure};

use crate::apt::{Apt, by_hand};
use crate::package::Form;
use crate::packaged_file::PackagedFile;
use crate::{cache_folder, npm, repository, test_adapters, vulkan_driver};

/// DirectX's shader compiler (University of Illinois/NCSA licence), which Microsoft builds for Linux too.
const DXC: PackagedFile = PackagedFile {
    name: "libdxcompiler_x86_64.so.3.7",
    bytes: 34_442_296,
    sha256: "fb549976da7abff1ee56bdfa4f5ab156b95e971d4270b5b4447b61682d105809",
    requirement: "compushady==0.17.5",
    form: Form::Source,
    entry: "compushady-0.17.5/compushady/backends/libdxcompiler_x86_64.so.3.7",
    package_bytes: 67_092_639,
};

const SPIRV_TOOLS: &[&str] = &["spirv-tools"];

/// Variables for the program `portability` that name the compilers. On Linux for x86-64, where all can be had, one
/// that is missing is an error; elsewhere it is said and left out.
pub fn environment() -> Result<Vec<(&'static str, OsString)>> {
    let mut set = vec![];
    let finders: [(&'static str, fn() -> Result<Vec<Found>>); 3] =
        [("spirv-val", spirv_val), ("DXC", dxc), ("Tint", tint)];
    let all_can_be_had = cfg!(all(target_os = "linux", target_arch = "x86_64"));
    for (name, find) in finders {
        match find() {
            Ok(found) => set.extend(found),
            Err(error) if !all_can_be_had => eprintln!("without {name}: {error:#}"),
            Err(error) => return Err(error.context(format!("{name} is needed"))),
        }
    }
    Ok(set)
}

type Found = (&'static str, OsString);

fn spirv_val() -> Result<Vec<Found>> {
    if !runs("spirv-val") {
        install(SPIRV_TOOLS)?;
        ensure!(runs("spirv-val"), "spirv-val does not run");
    }
    Ok(vec![("SUNFLECK_SPIRV_VAL", "spirv-val".into())])
}

fn dxc() -> Result<Vec<Found>> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "DirectX's compiler is brought for Linux on x86-64 only"
    );
    let path = DXC.in_cache(&cache_folder::find()?)?;
    Ok(vec![("SUNFLECK_DXC", path.into_os_string())])
}

fn tint() -> Result<Vec<Found>> {
    npm::ensure_node()?;
    // The npm package's own tests run on Dawn too.
    let folder = repository::root().join("wasm");
    npm::install(&folder)?;
    let mut set = vec![(
        "SUNFLECK_DAWN",
        folder.join("node_modules").into_os_string(),
    )];
    // Dawn refuses old versions of lavapipe.
    if vulkan_driver::swiftshader().is_none() {
        test_adapters::install_missing()?;
    }
    if let Some(driver) = vulkan_driver::swiftshader() {
        set.extend(vulkan_driver::only(&[&driver]));
    }
    Ok(set)
}

fn install(packages: &[&str]) -> Result<()> {
    match Apt::find() {
        Some(apt) => apt.install(packages),
        None => bail!("it is not here. Do: {}", by_hand(packages)),
    }
}

fn runs(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
