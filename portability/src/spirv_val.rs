//! SPIR-V's validator.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// `spirv-val` of the SPIR-V Tools.
pub struct SpirvVal {
    program: PathBuf,
    version: String,
}

impl SpirvVal {
    /// # Errors
    /// Where the program does not start.
    pub fn new(program: impl Into<PathBuf>) -> Result<SpirvVal> {
        let program = program.into();
        let started = Command::new(&program).arg("--version").output();
        let output = started.with_context(|| format!("{} does not start", program.display()))?;
        ensure!(
            output.status.success(),
            "{} --version failed ({})",
            program.display(),
            output.status
        );
        Ok(SpirvVal {
            program,
            version: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        })
    }

    /// What it says of itself.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Checks a module of naga's, but for one known fault of it (see [`allow_workgroup_layouts`]).
    ///
    /// # Errors
    /// What the validator says.
    pub fn check(&self, spirv: &[u8]) -> Result<()> {
        let mut child = Command::new(&self.program)
            .args(["--target-env", "vulkan1.1spv1.4", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("spirv-val has no input")?;
        // It may stop reading at the first fault: what it says then counts, not the closed pipe.
        stdin.write_all(&allow_workgroup_layouts(spirv)).ok();
        drop(stdin);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("spirv-val: {}", String::from_utf8_lossy(&said).trim());
        }
        Ok(())
    }
}

/// Words of a module's header.
const HEADER: usize = 5;
const OP_CAPABILITY: u32 = 17;
const OP_EXTENSION: u32 = 10;
const WORKGROUP_MEMORY_EXPLICIT_LAYOUT: u32 = 4428;
const EXTENSION: &[u8] = b"SPV_KHR_workgroup_memory_explicit_layout";

/// The module with the capability to lay out workgroup memory.
///
/// naga 30 decorates arrays in workgroup memory with strides, which needs this capability, and does not declare it
/// (VUID-StandaloneSpirv-None-10684; gfx-rs/wgpu issue 7696). No text of ours can avoid that, and the validator stops at
/// the first fault: with the capability it sees all others.
fn allow_workgroup_layouts(spirv: &[u8]) -> Vec<u8> {
    let word = |at: usize| {
        let bytes = spirv.get(at * 4..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let mut end = HEADER;
    while let Some(first) = word(end) {
        let length = (first >> 16) as usize;
        if first & 0xffff != OP_CAPABILITY || length == 0 {
            break;
        }
        end += length;
    }
    let (capabilities, rest) = spirv.split_at((end * 4).min(spirv.len()));
    // The name ends with a zero, and fills whole words.
    let name_words = EXTENSION.len() / 4 + 1;
    let mut module = capabilities.to_vec();
    for word in [2 << 16 | OP_CAPABILITY, WORKGROUP_MEMORY_EXPLICIT_LAYOUT] {
        module.extend(word.to_le_bytes());
    }
    module.extend(((name_words as u32 + 1) << 16 | OP_EXTENSION).to_le_bytes());
    module.extend(EXTENSION);
    module.resize(module.len() + name_words * 4 - EXTENSION.len(), 0);
    module.extend(rest);
    module
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_follows_the_others() {
        let words = [
            7,
            1,
            0,
            9,
            0,
            2 << 16 | OP_CAPABILITY,
            1,
            3 << 16 | 14,
            0,
            1_u32,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let module = allow_workgroup_layouts(&bytes);
        assert_eq!(module[..28], bytes[..28]);
        assert_eq!(module[28..36], [17, 0, 2, 0, 76, 17, 0, 0]);
        assert_eq!(module[36..40], [10, 0, 12, 0]);
        assert_eq!(
            module[40..84],
            *b"SPV_KHR_workgroup_memory_explicit_layout\0\0\0\0"
        );
        assert_eq!(module[84..], bytes[28..]);
    }

    #[test]
    fn what_is_no_module_stays_one() {
        assert!(allow_workgroup_layouts(&[]).len() > 40);
    }
}
