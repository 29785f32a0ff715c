//! The prompts, and which of them are answered.

use serde_json::Value;

const FILE: &str = include_str!("../../models/smollm2-135m-instruct/prompts.json");

/// A prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Its name.
    pub id: String,
    /// What kind of work it is.
    pub kind: String,
    /// The user's turn.
    pub text: String,
}

/// All prompts of the file.
fn all() -> Result<Vec<Prompt>, String> {
    let value: Value = serde_json::from_str(FILE).map_err(|error| error.to_string())?;
    let prompts = value.as_array().ok_or("prompts.json is no list")?;
    let field = |prompt: &Value, name: &str| prompt[name].as_str().map(str::to_owned);
    let prompt = |prompt: &Value| {
        Some(Prompt {
            id: field(prompt, "id")?,
            kind: field(prompt, "kind")?,
            text: field(prompt, "text")?,
        })
    };
    let prompts: Option<Vec<Prompt>> = prompts.iter().map(prompt).collect();
    prompts.ok_or_else(|| "a prompt of prompts.json has no id, kind or text".to_owned())
}

/// The first `count` prompts, kinds in turn, or of one kind alone.
pub fn chosen(count: usize, kind: Option<&str>) -> Result<Vec<Prompt>, String> {
    let all = all()?;
    let mut kinds: Vec<&str> = Vec::new();
    for prompt in &all {
        if !kinds.contains(&prompt.kind.as_str()) {
            kinds.push(&prompt.kind);
        }
    }
    if let Some(kind) = kind.filter(|kind| !kinds.contains(kind)) {
        return Err(format!(
            "no prompt is of kind {kind:?}; there are {}",
            kinds.join(", ")
        ));
    }
    kinds.retain(|name| kind.is_none_or(|kind| kind == *name));
    let of = |kind: &str| {
        let of_kind = all.iter().filter(|prompt| prompt.kind == kind);
        of_kind.collect::<Vec<_>>()
    };
    let kinds: Vec<Vec<&Prompt>> = kinds.into_iter().map(of).collect();
    let most = kinds.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..most).flat_map(|i| kinds.iter().filter_map(move |kind| kind.get(i).copied()));
    Ok(turns.take(count).cloned().collect())
}
