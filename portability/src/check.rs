//! One kernel through every translation and compiler.

use anyhow::Result;
use naga::back::hlsl::ShaderModel;
use serde_json::json;

use crate::{
    compilers::{Answer, Compilers},
    passed::Passed,
    table::Table,
    texts::Text,
    translate::Valid,
};

/// What came out of kernels: counts, and what was wrong.
#[derive(Default)]
pub struct Outcome {
    /// Counts of these kernels.
    pub table: Table,
    /// One line or more for each failure.
    pub failures: Vec<String>,
}

impl Outcome {
    /// Adds what came out of other kernels.
    pub fn add(&mut self, other: Outcome) {
        self.table.add(&other.table);
        self.failures.extend(other.failures);
    }

    fn note<T>(&mut self, check: &'static str, kernel: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.table.count(check).passed += 1;
                Some(value)
            }
            Err(error) => {
                self.table.count(check).failed += 1;
                self.failures.push(format!("{kernel}: {check}: {error:#}"));
                None
            }
        }
    }

    fn note_answer(&mut self, check: &'static str, kernel: &str, answer: Answer) {
        match answer {
            Some(result) => drop(self.note(check, kernel, result)),
            None => self.table.count(check).not_asked += 1,
        }
    }
}

const VALID: &str = "WGSL, valid by naga";
const SPIRV: &str = "SPIR-V for Vulkan 1.1, valid by spirv-val";
const CHECKED_SPIRV: &str = "the same with run-time checks";
const MSL: &str = "MSL 2.4, written by naga";
const HLSL_5: &str = "HLSL 5.1 (no subgroups, no f16), written by naga";
const DXIL: &str = "HLSL 6.0 (6.2 with f16), compiled to DXIL by DXC";
const TINT: &str = "WGSL, read by Tint for a browser";
const DAWN: &str = "a pipeline by Tint and SwiftShader, of every 32nd without f16";

/// Checks one text. One that is not valid has no translations.
pub fn check(text: &Text, compilers: &mut Compilers, passed: &Passed) -> Outcome {
    let mut outcome = Outcome::default();
    let name = &text.name;
    let Some(kernel) = outcome.note(VALID, name, Valid::new(&text.naga)) else {
        return outcome;
    };
    for (checked, check) in [(false, SPIRV), (true, CHECKED_SPIRV)] {
        match kernel.spirv(checked) {
            Err(error) => drop(outcome.note::<()>(check, name, Err(error))),
            Ok(spirv) => {
                let answer = compilers.spirv_val(&spirv, passed);
                outcome.note_answer(check, name, answer);
            }
        }
    }

    // Metal and DirectX have no cooperative matrices in naga that fit these kernels: there the plan takes another.
    if kernel.needs.matrices {
        for check in [MSL, HLSL_5, DXIL, TINT, DAWN] {
            outcome.table.count(check).not_asked += 1;
        }
        return outcome;
    }
    let both = kernel.msl(false).and_then(|_| kernel.msl(true));
    outcome.note(MSL, name, both);

    if kernel.needs.subgroups || kernel.needs.f16 {
        outcome.table.count(HLSL_5).not_asked += 1;
    } else {
        outcome.note(HLSL_5, name, kernel.hlsl(ShaderModel::V5_1, true));
    }

    let model = if kernel.needs.f16 {
        ShaderModel::V6_2
    } else {
        ShaderModel::V6_0
    };
    match kernel.hlsl(model, false) {
        Err(error) => drop(outcome.note::<()>(DXIL, name, Err(error))),
        Ok((hlsl, entry)) => {
            let question = json!({
                "name": name,
                "hlsl": hlsl,
                "entry": entry,
                "profile": format!("cs_{}", model.to_str()),
                "arguments": arguments(model),
            });
            outcome.note_answer(DXIL, name, compilers.dxc(&question, passed));
        }
    }
    let question = json!({ "name": name, "wgsl": text.tint });
    outcome.note_answer(TINT, name, compilers.tint(&question, passed));
    let asked = text.to_pipeline && !kernel.needs.f16;
    let answer = asked.then(|| compilers.dawn(&question, passed));
    outcome.note_answer(DAWN, name, answer.flatten());
    outcome
}

/// Those that wgpu gives DXC.
fn arguments(model: ShaderModel) -> Vec<&'static str> {
    let mut arguments = vec!["-HV", "2018", "-no-warnings", "-Ges"];
    if model >= ShaderModel::V6_2 {
        arguments.push("-enable-16bit-types");
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_kernel_fails_once_and_says_where() {
        let text = Text {
            name: "broken".into(),
            naga: "@compute @workgroup_size(1) fn main() { let x: u32 = 1.5; }".into(),
            tint: String::new(),
            to_pipeline: false,
        };
        let mut none = Compilers::default();
        let mut outcome = check(&text, &mut none, &Passed::default());
        assert_eq!(outcome.table.count(VALID).failed, 1);
        assert_eq!(outcome.failures.len(), 1);
        assert!(outcome.failures[0].starts_with("broken: WGSL"));
    }
}
