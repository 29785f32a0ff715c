//! `config.json`: the shape of a model, as GGUF's metadata has it.
//!
//! Source of the keys and their defaults: the configuration classes of `transformers`.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::HuggingFaceError;
use crate::model::gguf::Value;

const FILE: &str = "config.json";

/// What the metadata has no key for.
pub(super) struct Shape {
    /// The head is the embedding.
    pub tied: bool,
    /// What RoPE's frequencies are divided by, for each pair; empty where they aren't.
    pub rope_divisors: Vec<(&'static str, Vec<f32>)>,
}

/// The configuration with errors that name its keys.
struct Config<'j>(&'j Json);

impl<'j> Config<'j> {
    /// The value of a key; `None` where it is missing or null.
    fn get(&self, key: &str) -> Option<&'j Json> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether the file says `null`, which is not the same as nothing.
    fn is_null(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(Json::is_null)
    }

    fn refuse(&self, key: &str, needed: impl Into<String>) -> HuggingFaceError {
        let given = match self.get(key) {
            Some(value) => value.to_string().chars().take(64).collect(),
            None => "missing".to_owned(),
        };
        HuggingFaceError::Value {
            file: FILE,
            key: key.to_owned(),
            given,
            needed: needed.into(),
        }
    }

    fn count(&self, key: &str) -> Result<u32, HuggingFaceError> {
        let value = self.get(key).and_then(Json::as_u64);
        let value = value.and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| self.refuse(key, "a whole number below 2^32"))
    }

    fn count_or(&self, key: &str, default: u32) -> Result<u32, HuggingFaceError> {
        self.get(key).map_or(Ok(default), |_| self.count(key))
    }

    fn number(&self, key: &str) -> Result<f64, HuggingFaceError> {
        let value = self.get(key).and_then(Json::as_f64);
        value.ok_or_else(|| self.refuse(key, "a number"))
    }

    fn flag_or(&self, key: &str, default: bool) -> Result<bool, HuggingFaceError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => (value.as_bool()).ok_or_else(|| self.refuse(key, "true or false")),
        }
    }
}

/// Reads the configuration into GGUF's metadata.
pub(super) fn read(
    json: &Json,
    metadata: &mut HashMap<String, Value>,
) -> Result<Shape, HuggingFaceError> {
    let config = Config(json);
    let model_type = config.get("model_type").and_then(Json::as_str);
    let family = match model_type {
        Some("llama" | "mistral") => "llama",
        Some(name @ ("qwen2" | "qwen3" | "smollm3")) => name,
        _ => {
            let needed = "llama, mistral, qwen2, qwen3 or smollm3";
            return Err(config.refuse("model_type", needed));
        }
    };
    let activation = config.get("hidden_act").and_then(Json::as_str);
    if !matches!(activation, None | Some("silu" | "swish")) {
        return Err(config.refuse("hidden_act", "silu"));
    }
    let heads = config.count("num_attention_heads")?;
    let width = config.count("hidden_size")?;
    // Qwen3's class says 128 where a file doesn't.
    let per_head = match family {
        "qwen3" => 128,
        _ => width.checked_div(heads).unwrap_or(0),
    };
    let head = config.count_or("head_dim", per_head)?;
    let layers = config.count("num_hidden_layers")?;
    // Of the other classes it is the number of heads.
    let kv_heads = match model_type {
        Some("mistral") => 8,
        Some("smollm3") => 4,
        _ => heads,
    };
    let mut set = |key: &str, value| metadata.insert(format!("{family}.{key}"), value);
    for (key, value) in [
        ("block_count", layers),
        ("context_length", config.count("max_position_embeddings")?),
        ("embedding_length", width),
        ("feed_forward_length", config.count("intermediate_size")?),
        ("attention.head_count", heads),
        ("attention.key_length", head),
        ("attention.value_length", head),
        ("rope.dimension_count", head),
        (
            "attention.head_count_kv",
            match config.is_null("num_key_value_heads") {
                true => heads,
                false => config.count_or("num_key_value_heads", kv_heads)?,
            },
        ),
    ] {
        set(key, Value::U32(value));
    }
    let epsilon = config.number("rms_norm_eps")? as f32;
    set("attention.layer_norm_rms_epsilon", Value::F32(epsilon));
    if let Some(window) = window(&config, family, layers)? {
        set("attention.sliding_window", Value::U32(window));
    }
    if family == "smollm3" {
        check_no_rope(&config, layers)?;
    }
    let usual_base = match family {
        "smollm3" => 2e6,
        _ => 1e4,
    };
    let rope = rope(&config, head, usual_base)?;
    set("rope.freq_base", Value::F32(rope.base as f32));
    for (name, value) in rope.scaling {
        set(&format!("rope.scaling.{name}"), value);
    }
    let name = Value::String(family.to_owned());
    metadata.insert("general.architecture".to_owned(), name);
    Ok(Shape {
        // SmolLM3's class leaves it to the class of all configurations, which ties, and files leave it out.
        tied: config.flag_or("tie_word_embeddings", family == "smollm3")?,
        rope_divisors: rope.tensors,
    })
}

/// The sliding window of all layers.
fn window(config: &Config<'_>, family: &str, layers: u32) -> Result<Option<u32>, HuggingFaceError> {
    // Only Mistral has a window without saying that it is used.
    let mistral = config.get("model_type").and_then(Json::as_str) == Some("mistral");
    let used = mistral || config.flag_or("use_sliding_window", false)?;
    if !used || config.get("sliding_window").is_none() {
        return Ok(None);
    }
    if family.starts_with("qwen") {
        // Layers from this one on have the window.
        let first = config.count_or("max_window_layers", 28)?;
        if first >= layers {
            return Ok(None);
        }
        if first > 0 {
            let needed = "0, or the number of layers: a window in some layers only is not computed";
            return Err(config.refuse("max_window_layers", needed));
        }
    }
    config.count("sliding_window").map(Some)
}

/// SmolLM3's layers without rotation must be every fourth: the only way that is computed.
fn check_no_rope(config: &Config<'_>, layers: u32) -> Result<(), HuggingFaceError> {
    const KEY: &str = "no_rope_layers"; // 1 for a layer that has the rotation
    let needed = "0 for every fourth layer and 1 for the others";
    let Some(list) = config.get(KEY) else {
        return match config.count_or("no_rope_layer_interval", 4)? {
            4 => Ok(()),
            _ => Err(config.refuse("no_rope_layer_interval", "4")),
        };
    };
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let right = (1u64..).zip(list);
    let right = right.filter(|(i, v)| v.as_u64() == Some(u64::from(!i.is_multiple_of(4))));
    match list.len() == layers as usize && right.count() == list.len() {
        true => Ok(()),
        false => Err(config.refuse(KEY, needed)),
    }
}

struct Rope {
    base: f64,
    /// Metadata under `rope.scaling`.
    scaling: Vec<(&'static str, Value)>,
    /// Divisors of the frequencies, by the name of the tensor that GGUF has them in.
    tensors: Vec<(&'static str, Vec<f32>)>,
}

fn rope(config: &Config<'_>, head: u32, usual_base: f64) -> Result<Rope, HuggingFaceError> {
    // Since version 5 of transformers base and scaling are in one place.
    let key = ["rope_parameters", "rope_scaling"]
        .into_iter()
        .find(|key| config.get(key).is_some());
    let scaling = Config(key.and_then(|key| config.get(key)).unwrap_or(&Json::Null));
    let base = match (scaling.get("rope_theta"), config.get("rope_theta")) {
        (Some(_), _) => scaling.number("rope_theta")?,
        (None, Some(_)) => config.number("rope_theta")?,
        (None, None) => usual_base,
    };
    let mut rope = Rope {
        base,
        scaling: Vec::new(),
        tensors: Vec::new(),
    };
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
    match kind.map_or(Some("default"), Json::as_str) {
        Some("default") => {}
        Some("linear") => {
            let factor = Value::F32(scaling.number("factor")? as f32);
            rope.scaling = vec![
                ("type", Value::String("linear".to_owned())),
                ("factor", factor),
            ];
        }
        Some("llama3") => {
            let divisors = llama3_divisors(&scaling, base, head)?;
            rope.tensors = vec![("rope_freqs.weight", divisors)];
        }
        Some("yarn") => rope.scaling = yarn(config, &scaling)?,
        Some("longrope") => {
            rope.scaling = long_rope(config, &scaling)?;
            for (key, tensor) in [
                ("short_factor", "rope_factors_short.weight"),
                ("long_factor", "rope_factors_long.weight"),
            ] {
                rope.tensors
                    .push((tensor, pair_factors(&scaling, key, head)?));
            }
        }
        _ => {
            let key = key.unwrap_or("rope_scaling");
            let needed = "of the type default, linear, llama3, yarn or longrope";
            return Err(config.refuse(key, needed));
        }
    }
    Ok(rope)
}

/// A positive number; `None` where it is not given.
fn positive_or_none(config: &Config<'_>, key: &str) -> Result<Option<f64>, HuggingFaceError> {
    match config.get(key) {
        None => Ok(None),
        Some(_) => match config.number(key)? {
            value if value > 0.0 => Ok(Some(value)),
            _ => Err(config.refuse(key, "a positive number")),
        },
    }
}

/// Tokens of the context that was stretched: in the scaling, beside it, or the whole context.
fn original_context(config: &Config<'_>, scaling: &Config<'_>) -> Result<u32, HuggingFaceError> {
    const KEY: &str = "original_max_position_embeddings";
    let there = [scaling, config]
        .into_iter()
        .find(|config| config.get(KEY).is_some());
    match there {
        Some(there) => there.count(KEY),
        None => config.count("max_position_embeddings"),
    }
}

/// YaRN's numbers, as `_compute_yarn_parameters` in `transformers` takes them, under GGUF's names.
fn yarn(
    config: &Config<'_>,
    scaling: &Config<'_>,
) -> Result<Vec<(&'static str, Value)>, HuggingFaceError> {
    for key in ["mscale", "mscale_all_dim"] {
        if scaling.get(key).is_some() {
            return Err(scaling.refuse(key, "left out"));
        }
    }
    if !scaling.flag_or("truncate", true)? {
        return Err(scaling.refuse("truncate", "true"));
    }
    let factor = scaling.number("factor")?;
    if factor < 1.0 {
        return Err(scaling.refuse("factor", "at least 1"));
    }
    // The file's factor on queries and keys is the whole of it, GGUF's comes on top of the paper's.
    let paper = 1.0 + 0.1 * factor.ln();
    let attention = positive_or_none(scaling, "attention_factor")?.unwrap_or(paper) / paper;
    let fast = positive_or_none(scaling, "beta_fast")?.unwrap_or(32.0);
    let slow = positive_or_none(scaling, "beta_slow")?.unwrap_or(1.0);
    Ok(vec![
        ("type", Value::String("yarn".to_owned())),
        ("factor", Value::F32(factor as f32)),
        (
            "original_context_length",
            Value::U32(original_context(config, scaling)?),
        ),
        ("yarn_beta_fast", Value::F32(fast as f32)),
        ("yarn_beta_slow", Value::F32(slow as f32)),
        ("yarn_attn_factor", Value::F32(attention as f32)),
    ])
}

/// LongRoPE's numbers but for its lists, as `_compute_longrope_parameters` in `transformers` takes them.
fn long_rope(
    config: &Config<'_>,
    scaling: &Config<'_>,
) -> Result<Vec<(&'static str, Value)>, HuggingFaceError> {
    let original = original_context(config, scaling)?;
    let context = f64::from(config.count("max_position_embeddings")?);
    let stretch = positive_or_none(scaling, "factor")?.unwrap_or(context / f64::from(original));
    let usual = match stretch <= 1.0 {
        true => 1.0,
        false => (1.0 + stretch.ln() / f64::from(original).ln()).sqrt(),
    };
    let attention = positive_or_none(scaling, "attention_factor")?.unwrap_or(usual);
    Ok(vec![
        ("type", Value::String("longrope".to_owned())),
        ("original_context_length", Value::U32(original)),
        ("attn_factor", Value::F32(attention as f32)),
    ])
}

/// A list with a positive number for each pair.
fn pair_factors(scaling: &Config<'_>, key: &str, head: u32) -> Result<Vec<f32>, HuggingFaceError> {
    let list = scaling.get(key).and_then(Json::as_array);
    let numbers = list.map(|list| list.iter().filter_map(Json::as_f64));
    let numbers: Vec<f32> = numbers
        .into_iter()
        .flatten()
        .map(|number| number as f32)
        .collect();
    let fits =
        numbers.len() == (head / 2) as usize && list.is_some_and(|l| l.len() == numbers.len());
    match fits
        && numbers
            .iter()
            .all(|number| *number > 0.0 && number.is_finite())
    {
        true => Ok(numbers),
        false => Err(scaling.refuse(key, "a positive number for each pair of a head's elements")),
    }
}

/// Llama 3.1's scaling: wavelengths beyond the original context are stretched by the factor, short ones stay, and those
/// between go over smoothly.
///
/// Source: `_compute_llama3_parameters` in `modeling_rope_utils.py` of `transformers`; here as divisors of the
/// frequencies.
fn llama3_divisors(
    scaling: &Config<'_>,
    base: f64,
    head: u32,
) -> Result<Vec<f32>, HuggingFaceError> {
    let positive = |key: &str| -> Result<f64, HuggingFaceError> {
        let value = scaling.number(key)?;
        match value > 0.0 {
            true => Ok(value),
            false => Err(scaling.refuse(key, "a positive number")),
        }
    };
    let factor = positive("factor")?;
    let (low, high) = (positive("low_freq_factor")?, positive("high_freq_factor")?);
    let context = positive("original_max_position_embeddings")?;
    if high <= low {
        let needed = "more than `low_freq_factor`";
        return Err(scaling.refuse("high_freq_factor", needed));
    }
    let divisor = |pair: u32| {
        let frequency = base.powf(-2.0 * f64::from(pair) / f64::from(head));
        let wavelength = std::f64::consts::TAU / frequency;
        let turns = context / wavelength;
        let smooth = ((turns - low) / (high - low)).clamp(0.0, 1.0);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    };
    // A head larger than any that is run is refused with the other sizes.
    Ok((0..(head / 2).min(1 << 10)).map(divisor).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama() -> Json {
        serde_json::json!({
            "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 8, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": null,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
        })
    }

    fn with(changes: Json) -> Json {
        let mut json = llama();
        for (key, value) in changes.as_object().unwrap() {
            json[key] = value.clone();
        }
        json
    }

    fn metadata(json: &Json) -> (HashMap<String, Value>, Shape) {
        let mut metadata = HashMap::new();
        let shape = read(json, &mut metadata).unwrap();
        (metadata, shape)
    }

    #[test]
    fn keys_become_those_of_gguf() {
        let (m, shape) = metadata(&llama());
        assert_eq!(m["llama.attention.key_length"], Value::U32(16));
        assert_eq!(m["llama.attention.head_count_kv"], Value::U32(2));
        assert_eq!(m["llama.rope.freq_base"], Value::F32(500_000.0));
        assert!(!shape.tied && shape.rope_divisors.is_empty());
        assert!(!m.contains_key("llama.attention.sliding_window"));
        let newer = serde_json::json!({
            "tie_word_embeddings": true, "rope_theta": null,
            "rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1000.0},
        });
        let (m, shape) = metadata(&with(newer));
        assert_eq!(m["llama.rope.freq_base"], Value::F32(1000.0));
        assert_eq!(m["llama.rope.scaling.factor"], Value::F32(4.0));
        assert!(shape.tied);
    }

    #[test]
    fn what_a_file_leaves_out_is_what_its_class_has() {
        let without = |model_type: &str| {
            let mut json =
                with(serde_json::json!({"model_type": model_type, "num_attention_heads": 16}));
            let map = json.as_object_mut().unwrap();
            map.shift_remove("num_key_value_heads");
            map.shift_remove("rope_theta");
            json
        };
        for (model_type, family, kv_heads, base, tied) in [
            ("llama", "llama", 16, 1e4, false),
            ("mistral", "llama", 8, 1e4, false),
            ("qwen2", "qwen2", 16, 1e4, false),
            ("smollm3", "smollm3", 4, 2e6, true),
        ] {
            let mut json = without(model_type);
            let (m, shape) = metadata(&json);
            let key = |name: &str| m[&format!("{family}.{name}")].clone();
            assert_eq!(
                key("attention.head_count_kv"),
                Value::U32(kv_heads),
                "{model_type}"
            );
            assert_eq!(key("rope.freq_base"), Value::F32(base), "{model_type}");
            assert_eq!(shape.tied, tied, "{model_type}");
            // `null` stands for the number of heads in every class.
            json["num_key_value_heads"] = Json::Null;
            json["tie_word_embeddings"] = Json::Bool(!tied);
            let (m, shape) = metadata(&json);
            let heads = &m[&format!("{family}.attention.head_count_kv")];
            assert_eq!(
                (heads, shape.tied),
                (&Value::U32(16), !tied),
                "{model_type}"
            );
        }
    }

    #[test]
    fn stretched_contexts_have_the_numbers_of_gguf() {
        let yarn = serde_json::json!({
            "rope_scaling": {
                "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128,
                "attention_factor": 1.0, "beta_fast": 16.0,
            },
        });
        let (m, shape) = metadata(&with(yarn));
        let key = |name: &str| m[&format!("llama.rope.scaling.{name}")].clone();
        assert_eq!(key("type"), Value::String("yarn".to_owned()));
        assert_eq!(key("factor"), Value::F32(4.0));
        assert_eq!(key("original_context_length"), Value::U32(128));
        assert_eq!(key("yarn_beta_fast"), Value::F32(16.0));
        assert_eq!(key("yarn_beta_slow"), Value::F32(1.0));
        // 1 in all: one over the paper's factor.
        assert_eq!(
            key("yarn_attn_factor"),
            Value::F32((1.0 / (1.0 + 0.1 * 4f64.ln())) as f32)
        );
        assert!(shape.rope_divisors.is_empty());

        let list: Vec<f64> = (1..=8).map(f64::from).collect();
        let long = serde_json::json!({
            "original_max_position_embeddings": 128,
            "rope_scaling": {"type": "longrope", "short_factor": list, "long_factor": list},
        });
        let (m, shape) = metadata(&with(long));
        let attention = (1.0 + 4f64.ln() / 128f64.ln()).sqrt() as f32;
        assert_eq!(m["llama.rope.scaling.attn_factor"], Value::F32(attention));
        let names: Vec<_> = shape.rope_divisors.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            ["rope_factors_short.weight", "rope_factors_long.weight"]
        );
        for (changes, key) in [
            (serde_json::json!({"type": "yarn", "factor": 0.5}), "factor"),
            (
                serde_json::json!({"type": "yarn", "factor": 2.0, "mscale": 1.0}),
                "mscale",
            ),
            (
                serde_json::json!({"type": "longrope", "short_factor": [1.0]}),
                "short_factor",
            ),
        ] {
            let json = with(serde_json::json!({ "rope_scaling": changes }));
            let error = read(&json, &mut HashMap::new()).err().unwrap().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn windows_count_only_where_the_family_uses_them() {
        let window = |changes| {
            let json = with(changes);
            let family = json["model_type"].as_str().unwrap();
            window(&Config(&json), family, 8)
        };
        let mistral = serde_json::json!({"model_type": "mistral", "sliding_window": 99});
        assert_eq!(window(mistral).unwrap(), Some(99));
        let unused = serde_json::json!({"model_type": "qwen2", "sliding_window": 99});
        assert_eq!(window(unused).unwrap(), None);
        let qwen = |first: u32| {
            serde_json::json!({
                "model_type": "qwen2", "sliding_window": 99, "use_sliding_window": true, "max_window_layers": first,
            })
        };
        assert_eq!(window(qwen(8)).unwrap(), None);
        assert_eq!(window(qwen(0)).unwrap(), Some(99));
        assert!(window(qwen(3)).is_err());
    }

    #[test]
    fn llama3_scaling_divides_long_waves_only() {
        // Base 1 gives every pair a wavelength of 2 pi: `turns` is what decides.
        let divisor = |context: f64| {
            let json = serde_json::json!({
                "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": context,
            });
            llama3_divisors(&Config(&json), 1.0, 2).unwrap()[0]
        };
        let turns = std::f64::consts::TAU;
        assert_eq!(divisor(5.0 * turns), 1.0);
        assert_eq!(divisor(0.5 * turns), 8.0);
        // Half of the way: 1 / (0.5 / 8 + 0.5).
        assert!((divisor(2.5 * turns) - 16.0 / 9.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_not_computed_is_refused_by_its_key() {
        for (changes, word) in [
            (serde_json::json!({"model_type": "gemma"}), "model_type"),
            (serde_json::json!({"hidden_act": "gelu"}), "hidden_act"),
            (serde_json::json!({"hidden_size": "64"}), "hidden_size"),
            (serde_json::json!({"hidden_size": -1}), "hidden_size"),
            (serde_json::json!({"rms_norm_eps": null}), "rms_norm_eps"),
            (
                serde_json::json!({"rope_scaling": {"type": "dynamic"}}),
                "rope_scaling",
            ),
            (
                serde_json::json!({"rope_scaling": {"type": "llama3"}}),
                "factor",
            ),
            (
                serde_json::json!({"tie_word_embeddings": 1}),
                "tie_word_embeddings",
            ),
            (
                serde_json::json!({"model_type": "smollm3", "no_rope_layers": [1, 1, 1, 1, 1, 1, 1, 0]}),
                "no_rope_layers",
            ),
        ] {
            let error = read(&with(changes), &mut HashMap::new()).err().unwrap();
            assert!(error.to_string().contains(word), "{error}");
        }
        let zero = with(serde_json::json!({"num_attention_heads": 0}));
        let (m, _) = metadata(&zero);
        assert_eq!(m["llama.attention.head_count"], Value::U32(0)); // refused with the other sizes
    }
}
