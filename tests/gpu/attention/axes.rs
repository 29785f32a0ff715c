//! The axes of the case matrix, and a case as one value of each.

use sunfleck::attention::Element;

use super::recipe::{BiasKind, MaskKind, Placement, Recipe, uneven};

/// One axis: its name and its values, the simplest and cheapest first.
pub type Axis = (&'static str, &'static [&'static str]);

/// Another axis is another line here and a few in [`Case::recipe`].
pub const AXES: &[Axis] = &[
    (
        "head",
        &[
            "64", "32", "40", "72", "80", "96", "112", "128", "160", "192", "256",
        ],
    ),
    ("value", &["same", "32", "20", "128", "200", "256"]),
    ("group", &["1", "3", "4", "8", "12", "16", "32"]),
    ("kv_heads", &["1", "2", "3"]),
    ("batch", &["1", "3"]),
    ("keys", &["1", "31", "113", "512", "1024", "4097", "16384"]),
    (
        "queries",
        &["1", "2", "3", "5", "8", "16", "32", "64", "75", "512"],
    ),
    ("lengths", &["full", "uneven", "empty", "ragged"]),
    (
        "placement",
        &[
            "token", "head", "gaps", "permuted", "joined", "page16", "page64",
        ],
    ),
    ("mask", &["none", "causal", "prefix", "tree"]),
    ("window", &["none", "1", "33", "300"]),
    ("softcap", &["none", "2"]),
    ("alibi", &["none", "slopes"]),
    ("bias", &["none", "shared", "heads", "dense"]),
    ("sinks", &["none", "sinks"]),
    ("lse", &["none", "lse"]),
    ("q", &["f32", "f16", "bf16"]),
    ("k", &["f32", "f16", "bf16", "q8", "q4"]),
    ("v", &["f32", "f16", "bf16", "q8", "q4"]),
    ("o", &["f32", "f16", "bf16"]),
    ("order", &["any", "invariant"]),
    ("recorded", &["capacity", "tight"]),
];

/// The values of a case, one index an axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case(pub Vec<usize>);

impl Case {
    pub fn parse(line: &str) -> Self {
        let mut values = vec![0; AXES.len()];
        for word in line.split_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let axis = AXES.iter().position(|axis| axis.0 == name);
            let axis = axis.unwrap_or_else(|| panic!("no axis {name:?} in {line:?}"));
            let value = AXES[axis].1.iter().position(|v| *v == value);
            values[axis] = value
                .unwrap_or_else(|| panic!("{word:?}: the values of {name} are {:?}", AXES[axis].1));
        }
        Self(values)
    }

    /// The values that are not the first.
    pub fn name(&self) -> String {
        let named = AXES.iter().zip(&self.0).filter(|(_, value)| **value > 0);
        let words: Vec<_> = named
            .map(|((name, values), value)| format!("{name}={}", values[*value]))
            .collect();
        words.join(" ")
    }

    pub fn get(&self, name: &str) -> &'static str {
        let axis = AXES.iter().position(|axis| axis.0 == name).unwrap();
        AXES[axis].1[self.0[axis]]
    }

    pub fn number(&self, name: &str) -> u32 {
        self.get(name).parse().unwrap()
    }

    pub fn recipe(&self) -> Recipe {
        let set = |name| self.get(name) != "none";
        let (queries, keys) = (self.number("queries"), self.number("keys"));
        let batch = self.number("batch");
        let mask = match self.get("mask") {
            "none" => MaskKind::None,
            "causal" => MaskKind::Causal,
            "prefix" => MaskKind::Prefix,
            _ => MaskKind::Tree,
        };
        let tree = mask == MaskKind::Tree;
        let mut sequences = match self.get("lengths") {
            "full" => vec![(queries, keys); batch as usize],
            _ => uneven(batch, queries, keys, tree),
        };
        if self.get("lengths") == "empty" {
            let last = sequences.len() - 1;
            // Keys without a query, and a query without a key (which in a tree is its own key).
            sequences[0] = (0, keys);
            if last > 0 && !tree {
                sequences[last].1 = 0;
            }
        }
        let element = |name| match self.get(name) {
            "f32" => Element::F32,
            "f16" => Element::F16,
            "bf16" => Element::Bf16,
            "q8" => Element::Q8,
            _ => Element::Q4,
        };
        let head_dim = self.number("head");
        Recipe {
            head_dim,
            value_dim: self.get("value").parse().unwrap_or(head_dim),
            group: self.number("group"),
            kv_heads: self.number("kv_heads"),
            spare: match self.get("lengths") {
                "full" => (0, 0),
                "empty" => (queries, 0),
                _ => (2, 70),
            },
            sequences,
            ragged: self.get("lengths") == "ragged",
            placement: match self.get("placement") {
                "token" => Placement::TokenMajor,
                "head" => Placement::HeadMajor,
                "gaps" => Placement::Gaps,
                "permuted" => Placement::Permuted,
                "joined" => Placement::Joined,
                "page16" => Placement::Paged(16),
                _ => Placement::Paged(64),
            },
            mask,
            window: self.get("window").parse().ok(),
            softcap: self.get("softcap").parse().ok(),
            alibi: set("alibi"),
            bias: match self.get("bias") {
                "none" => BiasKind::None,
                "shared" => BiasKind::Shared,
                "heads" => BiasKind::Heads,
                _ => BiasKind::Dense,
            },
            sinks: set("sinks"),
            lse: set("lse"),
            elements: ["q", "k", "v", "o"].map(element),
            invariant: self.get("order") == "invariant",
            tight: self.get("recorded") == "tight",
            seed: (self.0.iter()).fold(1, |seed: u64, v| seed.wrapping_mul(31) + *v as u64 + 1),
        }
    }

    /// Whether there is such a case, with at most `work` multiplications and additions.
    pub fn allowed(&self, work: u64) -> bool {
        let tree = self.get("mask") == "tree";
        let paged = self.get("placement").starts_with("page");
        // Pages, a tree and a bias take more buffers than there are.
        let fits = !(tree && paged && self.get("bias") != "none")
            && (!tree || self.number("queries") <= self.number("keys"));
        let recipe = self.recipe();
        fits && recipe.work() <= work && recipe.largest_buffer() <= 64 << 20
    }
}
