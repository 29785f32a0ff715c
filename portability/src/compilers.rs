//! The compilers that are asked, and what they are asked with.

use std::{env, ffi::OsString, fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{
    passed::{Passed, hexadecimal},
    service::{Script, Service},
    spirv_val::SpirvVal,
};

/// Where the compilers are. One that is not given is not asked, and the table says so.
#[derive(Debug, Default)]
pub struct Paths {
    spirv_val: Option<PathBuf>,
    dxc: Option<PathBuf>,
    node_modules: Option<PathBuf>,
}

impl Paths {
    /// As `cargo xtask portability` names them.
    pub fn from_environment() -> Paths {
        let path = |name| env::var_os(name).map(PathBuf::from);
        Paths {
            spirv_val: path("SUNFLECK_SPIRV_VAL"),
            dxc: path("SUNFLECK_DXC"),
            node_modules: path("SUNFLECK_DAWN"),
        }
    }
}

/// A compiler behind a script, and the name under which its answers are kept.
struct Scripted {
    service: Service,
    /// Changes with the compiler's version.
    identity: String,
}

impl Scripted {
    fn ask(&mut self, question: &Value, passed: &Passed) -> Result<()> {
        // The name is for messages.
        let mut nameless = question.clone();
        nameless["name"] = Value::Null;
        let key = nameless.to_string();
        if passed.knows(&self.identity, key.as_bytes()) {
            return Ok(());
        }
        self.service.ask(question)?;
        passed.note(&self.identity, key.as_bytes());
        Ok(())
    }
}

/// One of each that is here. A thread has its own.
#[derive(Default)]
pub struct Compilers {
    spirv_val: Option<SpirvVal>,
    dxc: Option<Scripted>,
    tint: Option<Scripted>,
    dawn: Option<Scripted>,
}

/// What a compiler said; nothing, where it is not here.
pub type Answer = Option<Result<()>>;

impl Compilers {
    /// Starts those that `paths` names.
    ///
    /// # Errors
    /// Where one does not start.
    pub fn start(paths: &Paths) -> Result<Compilers> {
        let spirv_val = paths.spirv_val.as_ref().map(SpirvVal::new).transpose()?;
        let dxc = paths.dxc.as_ref().map(|library| {
            let bytes = fs::read(library)
                .with_context(|| format!("{} can't be read", library.display()))?;
            let identity = format!("DXC {}", hexadecimal(Sha256::new_with_prefix(bytes)));
            scripted("python3", "dxc.py", vec![library.into()], identity)
        });
        let on = |backend: &str| {
            let start = |folder: &PathBuf| {
                let package = folder.join("webgpu/package.json");
                let text = fs::read_to_string(&package)
                    .with_context(|| format!("{} can't be read", package.display()))?;
                let package: Value = serde_json::from_str(&text)?;
                let identity = format!("Dawn {} {backend}", package["version"]);
                let arguments = vec![folder.into(), backend.into()];
                scripted("node", "tint.mjs", arguments, identity)
            };
            paths.node_modules.as_ref().map(start).transpose()
        };
        Ok(Compilers {
            spirv_val,
            dxc: dxc.transpose()?,
            tint: on("null")?,
            dawn: on("vulkan")?,
        })
    }

    /// SPIR-V.
    pub fn spirv_val(&self, spirv: &[u8], passed: &Passed) -> Answer {
        self.spirv_val.as_ref().map(|validator| {
            if !passed.knows(validator.version(), spirv) {
                validator.check(spirv)?;
                passed.note(validator.version(), spirv);
            }
            Ok(())
        })
    }

    /// `{name, hlsl, entry, profile, arguments}`, to DXIL.
    pub fn dxc(&mut self, question: &Value, passed: &Passed) -> Answer {
        self.dxc.as_mut().map(|dxc| dxc.ask(question, passed))
    }

    /// `{name, wgsl}`, read by Tint for a device that has every feature.
    pub fn tint(&mut self, question: &Value, passed: &Passed) -> Answer {
        self.tint.as_mut().map(|tint| tint.ask(question, passed))
    }

    /// `{name, wgsl}`, to a pipeline on SwiftShader.
    pub fn dawn(&mut self, question: &Value, passed: &Passed) -> Answer {
        self.dawn.as_mut().map(|dawn| dawn.ask(question, passed))
    }
}

fn scripted(
    interpreter: &'static str,
    file: &'static str,
    arguments: Vec<OsString>,
    identity: String,
) -> Result<Scripted> {
    let script = Script {
        interpreter,
        file,
        arguments,
    };
    Ok(Scripted {
        service: Service::start(&script)?,
        identity,
    })
}
