//! SPIR-V's validator.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

use crate::translate::Needs;

/// `spirv-val` of the SPIR-V Tools.
pub struct SpirvVal {
    program: PathBuf,
}

impl SpirvVal {
    /// # Errors
    /// Where the program does not start.
    pub fn new(program: impl Into<PathBuf>) -> Result<SpirvVal> {
        let program = program.into();
        let started = Command::new(&program)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        let status = started.with_context(|| format!("{} does not start", program.display()))?;
        ensure!(
            status.success(),
            "{} --version failed ({status})",
            program.display()
        );
        Ok(SpirvVal { program })
    }

    /// # Errors
    /// What the validator says.
    pub fn check(&self, spirv: &[u8], needs: Needs) -> Result<()> {
        let environment = if needs.matrices {
            "vulkan1.3"
        } else {
            "vulkan1.1"
        };
        let mut child = Command::new(&self.program)
            .args(["--target-env", environment, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("spirv-val has no input")?;
        // It may stop reading at the first fault: what it says then counts, not the closed pipe.
        stdin.write_all(spirv).ok();
        drop(stdin);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("spirv-val: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(())
    }
}
