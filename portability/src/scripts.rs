//! Compilers that are libraries of another language: a script of ours loads one and is asked about all kernels at once.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Tint, inside Dawn for Node. Takes `{name, wgsl}`.
pub const TINT: Script = Script {
    interpreter: "node",
    file: "tint.mjs",
};

/// DirectX's compiler. Takes `{name, hlsl, entry, profile, arguments}`.
pub const DXC: Script = Script {
    interpreter: "python3",
    file: "dxc.py",
};

/// A program that reads a JSON list from its standard input and answers with one as long: null for what compiles, else
/// the compiler's message.
pub struct Script {
    interpreter: &'static str,
    file: &'static str,
}

impl Script {
    /// The answers about `questions`; `library` is the script's one argument.
    ///
    /// # Errors
    /// Where the script does not run to its end, or answers something else.
    pub fn ask(&self, library: &Path, questions: &[Value]) -> Result<Vec<Option<String>>> {
        if questions.is_empty() {
            return Ok(vec![]);
        }
        let answers = self.run(library.as_os_str(), questions);
        let answers = answers.with_context(|| self.file)?;
        ensure!(
            answers.len() == questions.len(),
            "{} answered {} of {} questions",
            self.file,
            answers.len(),
            questions.len()
        );
        Ok(answers)
    }

    fn run(&self, library: &OsStr, questions: &[Value]) -> Result<Vec<Option<String>>> {
        let mut child = Command::new(self.interpreter)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(self.file))
            .arg(library)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", self.interpreter))?;
        let stdin = child.stdin.take().context("no input")?;
        // The scripts read everything before they write, so neither side waits for the other. One that dies early
        // closes the pipe: its exit status then says more.
        serde_json::to_writer(std::io::BufWriter::new(stdin), questions).ok();
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "failed ({})", output.status);
        serde_json::from_slice(&output.stdout).context("answered no list of messages")
    }
}
