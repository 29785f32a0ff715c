//! Options and shapes, which cross the border as JSON text.

use serde_json::{Map, Value};
use wasm_bindgen::JsValue;

use crate::error::{Code, fail};

/// An object of options, read field by field; what is left at the end was misspelt.
pub struct Fields {
    what: &'static str,
    fields: Map<String, Value>,
}

impl Fields {
    /// Reads `text`, an object that describes `what`.
    pub fn parse(what: &'static str, text: &str) -> Result<Self, JsValue> {
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => Ok(Self { what, fields }),
            Ok(_) => Err(fail(Code::Argument, format!("{what} must be an object"))),
            Err(error) => Err(fail(Code::Argument, format!("{what} is not JSON: {error}"))),
        }
    }

    fn wrong(&self, name: &str, needed: &str, given: &Value) -> JsValue {
        fail(
            Code::Argument,
            format!("`{name}` of {} must be {needed}, given {given}", self.what),
        )
    }

    /// The field, where it is there and not null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// A whole number from 0 to 2^32 - 1.
    pub fn u32(&mut self, name: &str) -> Result<Option<u32>, JsValue> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        // JavaScript has one kind of number: 3.0 is 3.
        let number = value.as_f64().filter(|n| n.fract() == 0.0);
        match number {
            Some(n) if (0.0..=f64::from(u32::MAX)).contains(&n) => Ok(Some(n as u32)),
            _ => Err(self.wrong(name, "a whole number from 0 to 2^32 - 1", &value)),
        }
    }

    /// As [`u32`](Self::u32) for a field that must be there.
    pub fn needed_u32(&mut self, name: &str) -> Result<u32, JsValue> {
        self.u32(name)?.ok_or_else(|| {
            fail(
                Code::Argument,
                format!("{} needs `{name}`, a whole number", self.what),
            )
        })
    }

    /// A number.
    pub fn f32(&mut self, name: &str) -> Result<Option<f32>, JsValue> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number as f32)),
                None => Err(self.wrong(name, "a number", &value)),
            },
        }
    }

    /// A whole number from 0 to 2^64 - 1: a number, or digits in a string where JavaScript's numbers end.
    pub fn u64(&mut self, name: &str) -> Result<Option<u64>, JsValue> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let whole = |n: &f64| n.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(n);
        let number = match &value {
            Value::String(digits) => digits.parse().ok(),
            other => other.as_f64().filter(whole).map(|n| n as u64),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(
                name,
                "a whole number from 0 to 2^53 - 1, or up to 2^64 - 1 as a bigint",
                &value,
            )),
        }
    }

    /// A truth value, false where it is not there.
    pub fn bool(&mut self, name: &str) -> Result<bool, JsValue> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(value) => Err(self.wrong(name, "true or false", &value)),
        }
    }

    /// A list of numbers.
    pub fn f32s(&mut self, name: &str) -> Result<Option<Vec<f32>>, JsValue> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let numbers = value.as_array().and_then(|list| {
            list.iter()
                .map(|item| item.as_f64().map(|number| number as f32))
                .collect::<Option<Vec<f32>>>()
        });
        match numbers {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.wrong(name, "a list of numbers", &value)),
        }
    }

    /// A list of strings.
    pub fn strings(&mut self, name: &str) -> Result<Option<Vec<String>>, JsValue> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let strings = value.as_array().and_then(|list| {
            list.iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<String>>>()
        });
        match strings {
            Some(strings) => Ok(Some(strings)),
            None => Err(self.wrong(name, "a list of strings", &value)),
        }
    }

    /// One of `choices` by name.
    pub fn choice<T: Copy>(
        &mut self,
        name: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, JsValue> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let found = choices
            .iter()
            .find(|(choice, _)| Some(*choice) == value.as_str());
        match found {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                Err(self.wrong(name, &format!("one of {}", names.join(", ")), &value))
            }
        }
    }

    /// Refuses fields that nobody asked for.
    pub fn finish(self) -> Result<(), JsValue> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(fail(
                Code::Argument,
                format!("{} has no field `{name}`", self.what),
            )),
        }
    }
}
