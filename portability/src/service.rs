//! Compilers that are libraries of another language: a script of ours loads one and answers about one kernel after another.

use std::{
    ffi::OsString,
    fmt,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// A script, and how it is started. It writes `ready` and then answers each line of JSON on its standard input with one:
/// null for what compiles, else the compiler's message.
#[derive(Clone, Debug)]
pub struct Script {
    /// The program that runs it.
    pub interpreter: &'static str,
    /// Its name in this package's folder.
    pub file: &'static str,
    /// What it is given.
    pub arguments: Vec<OsString>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.interpreter, self.file)?;
        self.arguments
            .iter()
            .try_for_each(|argument| write!(f, " {}", argument.display()))
    }
}

/// A running script. One that dies of a kernel is started again for the next.
pub struct Service {
    script: Script,
    running: Option<Running>,
}

struct Running {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

/// A kernel takes seconds at most, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(180);

impl Service {
    /// Starts `script`.
    ///
    /// # Errors
    /// Where it does not get ready: its compiler is not there, or is not what it takes it for.
    pub fn start(script: &Script) -> Result<Service> {
        Ok(Service {
            running: Some(Running::start(script)?),
            script: script.clone(),
        })
    }

    /// Asks about one kernel.
    ///
    /// # Errors
    /// What the compiler said, or how it died.
    pub fn ask(&mut self, question: &Value) -> Result<()> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.script)?,
        };
        // Without an answer it is not used again.
        let answer = running.answer(question).context(self.script.file)?;
        self.running = Some(running);
        match answer {
            None => Ok(()),
            Some(message) => bail!(message),
        }
    }
}

impl Running {
    fn start(script: &Script) -> Result<Running> {
        let mut child = Command::new(script.interpreter)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(script.file))
            .args(&script.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", script.interpreter))?;
        let input = child.stdin.take().context("no input")?;
        let output = child.stdout.take().context("no output")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(output).lines().map_while(|line| line.ok());
            lines.try_for_each(|line| sender.send(line))
        });
        let mut running = Running {
            child,
            input,
            lines,
        };
        match running.line().as_deref() {
            Ok("ready") => Ok(running),
            _ => bail!("{script} did not get ready"),
        }
    }

    fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => bail!("no answer in {} s", PATIENCE.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("ended ({})", self.child.wait()?),
        }
    }

    fn answer(&mut self, question: &Value) -> Result<Option<String>> {
        writeln!(self.input, "{question}")?;
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("answered {line:?}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input would end it too, after whatever it does now.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Repeats what it is told to, and dies of "die".
    fn parrot() -> Script {
        Script {
            interpreter: "python3",
            file: "tests/parrot.py",
            arguments: vec![],
        }
    }

    #[test]
    fn a_compiler_that_dies_of_one_kernel_answers_about_the_next() {
        let mut service = Service::start(&parrot()).unwrap();
        service.ask(&json!(null)).unwrap();
        let said = service.ask(&json!("line 1: wrong")).unwrap_err();
        assert_eq!(said.to_string(), "line 1: wrong");
        let died = format!("{:#}", service.ask(&json!("die")).unwrap_err());
        assert!(died.contains("parrot.py: ended (exit status: 3)"), "{died}");
        service.ask(&json!(null)).unwrap();
    }

    #[test]
    fn a_script_that_is_not_there_is_told_at_once() {
        let missing = Script {
            file: "no such.py",
            ..parrot()
        };
        let error = Service::start(&missing).err().unwrap().to_string();
        assert!(error.contains("no such.py did not get ready"), "{error}");
    }
}
