//! One kernel through every translation and compiler.

use anyhow::Result;
use naga::back::hlsl::ShaderModel;
use serde_json::{Value, json};

use crate::{spirv_val::SpirvVal, table::Table, texts::Text, translate::Valid};

/// What came out of kernels: counts, what was wrong, and what is still to be asked.
#[derive(Default)]
pub struct Outcome {
    /// Counts of these kernels.
    pub table: Table,
    /// One line or more for each failure.
    pub failures: Vec<String>,
    /// Questions for DXC.
    pub hlsl: Vec<Value>,
    /// Questions for Tint.
    pub wgsl: Vec<Value>,
}

impl Outcome {
    /// Adds what came out of other kernels.
    pub fn add(&mut self, other: Outcome) {
        self.table.add(&other.table);
        self.failures.extend(other.failures);
        self.hlsl.extend(other.hlsl);
        self.wgsl.extend(other.wgsl);
    }

    /// Counts the answers to `questions`.
    pub fn note_answers(
        &mut self,
        check: &'static str,
        questions: &[Value],
        answers: Vec<Option<String>>,
    ) {
        for (question, answer) in questions.iter().zip(answers) {
            let result = answer.map_or(Ok(()), |message| Err(anyhow::anyhow!(message)));
            self.note(check, question["name"].as_str().unwrap_or("?"), result);
        }
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
}

/// The first name in the table: what every other check needs.
const VALID: &str = "WGSL, valid by naga";

/// Compiled by DXC.
pub const DXIL: &str = "HLSL 6.0 (6.2 with f16), compiled to DXIL by DXC";
/// Compiled by Tint.
pub const TINT: &str = "WGSL, compiled by Tint";

/// Checks one text. One that is not valid has no translations; without a validator none of its SPIR-V is asked about.
pub fn check(text: &Text, spirv_val: Option<&SpirvVal>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(kernel) = outcome.note(VALID, &text.name, Valid::new(&text.naga)) else {
        return outcome;
    };
    for (checked, name) in [
        (false, "SPIR-V 1.3 (1.6 with matrices), valid by spirv-val"),
        (true, "the same with run-time checks"),
    ] {
        let spirv = kernel.spirv(checked);
        match spirv_val {
            Some(validator) => {
                let result = spirv.and_then(|bytes| validator.check(&bytes, kernel.needs));
                outcome.note(name, &text.name, result);
            }
            None => outcome.table.count(name).not_asked += 1,
        }
    }

    // Metal and DirectX have no cooperative matrices in naga that fit these kernels: there the plan takes another.
    const MSL: &str = "MSL 2.4, written by naga";
    const HLSL_5: &str = "HLSL 5.1 (no subgroups, no f16), written by naga";
    if kernel.needs.matrices {
        for name in [MSL, HLSL_5, DXIL, TINT] {
            outcome.table.count(name).not_asked += 1;
        }
        return outcome;
    }
    let both = kernel.msl(false).and_then(|_| kernel.msl(true));
    outcome.note(MSL, &text.name, both);

    if kernel.needs.subgroups || kernel.needs.f16 {
        outcome.table.count(HLSL_5).not_asked += 1;
    } else {
        outcome.note(HLSL_5, &text.name, kernel.hlsl(ShaderModel::V5_1, true));
    }

    let model = if kernel.needs.f16 {
        ShaderModel::V6_2
    } else {
        ShaderModel::V6_0
    };
    match kernel.hlsl(model, false) {
        Ok((hlsl, entry)) => outcome.hlsl.push(json!({
            "name": text.name,
            "hlsl": hlsl,
            "entry": entry,
            "profile": format!("cs_{}", model.to_str()),
            "arguments": arguments(model),
        })),
        Err(error) => drop(outcome.note::<()>(DXIL, &text.name, Err(error))),
    }
    let question = json!({ "name": text.name, "wgsl": text.tint });
    outcome.wgsl.push(question);
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
        };
        let mut outcome = check(&text, None);
        assert_eq!(outcome.table.count(VALID).failed, 1);
        assert_eq!(outcome.failures.len(), 1);
        assert!(outcome.failures[0].starts_with("broken: WGSL"));
    }
}
