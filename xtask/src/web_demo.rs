//! The demo page: built with Vite from `web-demo`, around the npm package of `wasm`.

use std::path::PathBuf;

use anyhow::Result;

use crate::{npm, repository, web_package};

/// Builds package and page; gives the folder of the page's sources, whose `dist` is the page.
pub fn build() -> Result<PathBuf> {
    let package = web_package::build()?;
    eprintln!(
        "npm package: {} bytes of code after gzip",
        package.compressed
    );
    let folder = repository::root().join("web-demo");
    npm::install(&folder)?;
    npm::run(npm::tool(&folder, "typescript/bin/tsc").args(["--project", "tsconfig.json"]))?;
    npm::run(npm::tool(&folder, "vite/bin/vite.js").args(["build", "--logLevel", "warn"]))?;
    Ok(folder)
}
