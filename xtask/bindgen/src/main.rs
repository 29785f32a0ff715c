//! `xtask-bindgen MODULE.wasm NAME FOLDER`: writes FOLDER/NAME.js, its types and FOLDER/NAME_bg.wasm.

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, name, folder] = arguments.as_slice() else {
        bail!("needs MODULE.wasm NAME FOLDER, given {arguments:?}");
    };
    let mut bindgen = Bindgen::new();
    bindgen.input_path(module).out_name(name).typescript(true);
    // An ES module whose `init` takes the wasm file's address: the package says where it is.
    bindgen.web(true)?.omit_default_module_path(true);
    bindgen
        .generate(folder)
        .with_context(|| format!("{module} could not be turned into {folder}"))
}
