//! What an answer may be made of, from JSON.

use std::sync::Arc;

use sunfleck::{generate::Grammar, model::Tokenizer};
use wasm_bindgen::JsValue;

use crate::{
    error::{Code, fail},
    json::Fields,
};

/// The field `grammar`: `{ "regex": pattern }` or `{ "jsonSchema": schema }`, the schema as JSON or as its text.
#[cfg(feature = "grammar")]
pub fn read(
    fields: &mut Fields,
    tokenizer: &Tokenizer,
) -> Result<Option<Arc<dyn Grammar>>, JsValue> {
    use sunfleck::generate::TextGrammar;

    let Some(value) = fields.take("grammar") else {
        return Ok(None);
    };
    let mut given = Fields::parse("`grammar`", &value.to_string())?;
    let (regex, schema) = (given.take("regex"), given.take("jsonSchema"));
    given.finish()?;
    let grammar = match (&regex, &schema) {
        (Some(serde_json::Value::String(pattern)), None) => TextGrammar::regex(tokenizer, pattern),
        (None, Some(serde_json::Value::String(text))) => TextGrammar::json_schema(tokenizer, text),
        (None, Some(schema)) => TextGrammar::json_schema(tokenizer, &schema.to_string()),
        _ => {
            return Err(fail(
                Code::Argument,
                format!(
                    "`grammar` must be {{ regex: string }} or {{ jsonSchema: schema }}, given {value}"
                ),
            ));
        }
    };
    match grammar {
        Ok(grammar) => Ok(Some(Arc::new(grammar))),
        Err(error) => Err(fail(Code::Grammar, error)),
    }
}

/// Refuses a grammar: this build knows none.
#[cfg(not(feature = "grammar"))]
pub fn read(fields: &mut Fields, _: &Tokenizer) -> Result<Option<Arc<dyn Grammar>>, JsValue> {
    match fields.take("grammar") {
        None => Ok(None),
        Some(_) => Err(fail(
            Code::Grammar,
            "this build of the module has no grammars; import the package from `sunfleck/grammar`",
        )),
    }
}
