//! Other programs' attention on the same machine: what `benches/peers/torch_attention.py` measured, put beside this run.

use serde_json::{Map, Value, json};

/// A peer's file.
#[derive(Clone, Debug, PartialEq)]
pub struct Peers {
    file: Value,
}

/// One peer on one case.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// `flash`, `cudnn`, `efficient`.
    pub name: String,
    /// Seconds of a call in the median, or why it does not take the case.
    pub seconds: Result<f64, String>,
}

impl Peers {
    /// The file that `SUNFLECK_BENCH_PEERS` names, if it names one.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn from_environment() -> Result<Option<Self>, String> {
        let path = std::env::var_os("SUNFLECK_BENCH_PEERS").filter(|path| !path.is_empty());
        let Some(path) = path else { return Ok(None) };
        let advice = |error: String| {
            format!(
                "SUNFLECK_BENCH_PEERS names {}: {error}; name a file that benches/peers/torch_attention.py wrote, or \
                 unset it",
                path.display()
            )
        };
        let text = std::fs::read_to_string(&path).map_err(|error| advice(error.to_string()))?;
        Self::parse(&text).map(Some).map_err(advice)
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is missing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        for (name, there) in [
            ("machine", file["machine"].is_object()),
            ("cases", file["cases"].is_array()),
        ] {
            if !there {
                return Err(format!("it has no {name:?}"));
            }
        }
        Ok(Self { file })
    }

    /// The whole file.
    pub fn json(&self) -> &Value {
        &self.file
    }

    /// `PyTorch 2.11.0, CUDA 13.0, NVIDIA H200`.
    pub fn source(&self) -> String {
        let machine = &self.file["machine"];
        let text = |name: &str| machine[name].as_str().unwrap_or("?");
        format!(
            "PyTorch {}, {}, {}",
            text("torch"),
            text("backend"),
            text("adapter")
        )
    }

    /// The peers of the case with this name.
    pub fn of(&self, case: &str) -> Vec<Peer> {
        let cases = self.file["cases"].as_array().into_iter().flatten();
        let peers = cases
            .filter(|entry| entry["name"] == case)
            .filter_map(|entry| entry["peers"].as_object())
            .flatten();
        peers
            .map(|(name, side)| Peer {
                name: name.clone(),
                seconds: side["seconds"]["median"].as_f64().ok_or_else(|| {
                    let reason = side["refused"].as_str();
                    reason.unwrap_or("the file gives no time").to_owned()
                }),
            })
            .collect()
    }

    /// The peers of a case beside a time of ours in seconds, for programs.
    pub fn beside(&self, case: &str, ours: f64) -> Value {
        let of_peer = |peer: Peer| {
            let value = match peer.seconds {
                Ok(seconds) => json!({ "seconds": seconds, "speed_up": seconds / ours }),
                Err(reason) => json!({ "refused": reason }),
            };
            (peer.name, value)
        };
        Value::Object(
            self.of(case)
                .into_iter()
                .map(of_peer)
                .collect::<Map<_, _>>(),
        )
    }
}
