//! `--grammar FILE`.

use std::{path::Path, sync::Arc};

use sunfleck::{
    generate::{Grammar, TextGrammar},
    model::Tokenizer,
};

/// The grammar in a file: a JSON schema where the name ends in `.json`, else a regular expression, whose last line
/// end does not count.
///
/// # Errors
/// A sentence that names the file, and the place in it where that is known.
pub fn read(path: &Path, tokenizer: &Tokenizer) -> Result<Arc<dyn Grammar>, String> {
    let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| in_file(&error))?;
    let is_schema =
        (path.extension()).is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let grammar = match is_schema {
        true => TextGrammar::json_schema(tokenizer, &text),
        false => TextGrammar::regex(tokenizer, text.strip_suffix('\n').unwrap_or(&text)),
    };
    Ok(Arc::new(grammar.map_err(|error| in_file(&error))?))
}
