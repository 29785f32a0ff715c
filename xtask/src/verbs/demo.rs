//! `cargo xtask demo`: the page with the model, on this machine.

use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use crate::{model, repository, web_demo};

/// Builds the page and serves it until it is stopped.
pub fn run(port: u16) -> Result<ExitCode> {
    // The model comes first: a download that fails says so in seconds, a first build takes minutes.
    let model = model::chosen()?;
    let folder = web_demo::build()?;
    let mut server = Command::new("node");
    server
        .arg("serve.mjs")
        .args(["--port", &port.to_string()])
        .arg("--model")
        .arg(&model);
    if !model::is_named_in_environment() {
        // The drafters were trained for the demo model and for no other.
        let drafters = repository::root().join("models/smollm2-135m-instruct");
        server.arg("--drafters").arg(drafters);
    }
    eprintln!("open this address in a browser with WebGPU; Ctrl-C stops the server");
    let status = server
        .current_dir(folder)
        .stdin(Stdio::null())
        .status()
        .context("node did not start")?;
    Ok(repository::exit_code(status))
}
