//! What is measured, and what it costs at the least.

use sunfleck::attention::{AttentionProblem, Element, Mask, TensorLayout};

/// One attention problem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// `prefill`: reading a prompt; `decode`: one token, or a checked draft, against a cache.
    pub kind: &'static str,
    /// Storage of Q, K, V and O.
    pub element: Element,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub dim: u32,
    /// Queries.
    pub queries: u32,
    /// Keys.
    pub keys: u32,
    /// Whether query `i` sees only the keys up to its own, bottom-right aligned.
    pub causal: bool,
}

const F32: Element = Element::F32;
const F16: Element = Element::F16;

/// Cases of an adapter that is a CPU: each a fraction of a second there.
#[rustfmt::skip]
const SOFTWARE: &[Case] = &[
    //   kind       element heads kv  dim queries keys  causal
    case("prefill", F32,     8,   8,   64,  512,  512,  false),
    case("prefill", F32,     8,   8,   64, 1024, 1024,  false),
    case("prefill", F32,     8,   8,   64, 2048, 2048,  false),
    case("prefill", F32,     8,   8,   64, 1024, 1024,  true),
    case("prefill", F32,     4,   4,  128, 1024, 1024,  false),
    case("prefill", F16,     8,   8,   64, 1024, 1024,  false),
    case("decode",  F32,     9,   3,   64,    1, 4096,  true),
    case("decode",  F32,     9,   3,   64,   16, 4096,  true),
    case("decode",  F32,     9,   3,   64,   64, 4096,  true),
    case("decode",  F16,    32,   8,  128,    1, 4096,  true),
    case("decode",  F16,    32,   8,  128,   16, 4096,  true),
    case("decode",  F16,    32,   8,  128,   64, 4096,  true),
];

/// Cases of a GPU.
#[rustfmt::skip]
const HARDWARE: &[Case] = &[
    //   kind       element heads kv  dim queries keys  causal
    case("prefill", F32,    32,  32,  128, 4096, 4096,  false),
    case("prefill", F16,    32,  32,  128, 4096, 4096,  false),
    case("prefill", F32,    32,  32,  128, 4096, 4096,  true),
    case("prefill", F16,    32,  32,  128, 4096, 4096,  true),
    case("prefill", F32,    32,  32,   64, 4096, 4096,  false),
    case("prefill", F16,    32,   8,  128, 4096, 4096,  true),
    case("prefill", F32,    32,   8,  128,  512,  512,  true),
    case("prefill", F16,    32,   8,  128,  512, 8192,  true),
    case("decode",  F16,    32,   8,  128,    1, 8192,  true),
    case("decode",  F16,    32,   8,  128,   16, 8192,  true),
    case("decode",  F16,    32,   8,  128,   64, 8192,  true),
    case("decode",  F32,    32,   8,  128,    1, 8192,  true),
    case("decode",  F32,     9,   3,   64,    1, 4096,  true),
    case("decode",  F32,     9,   3,   64,   16, 4096,  true),
    case("decode",  F16,    32,   8,  128,    1, 65536, true),
];

/// A case, as the tables above list them.
#[allow(clippy::too_many_arguments)] // the tables above are what is read
pub const fn case(
    kind: &'static str,
    element: Element,
    heads: u32,
    kv_heads: u32,
    dim: u32,
    queries: u32,
    keys: u32,
    causal: bool,
) -> Case {
    Case {
        kind,
        element,
        heads,
        kv_heads,
        dim,
        queries,
        keys,
        causal,
    }
}

/// The cases for a class of adapters.
pub fn cases(software: bool) -> &'static [Case] {
    match software {
        true => SOFTWARE,
        false => HARDWARE,
    }
}

impl Case {
    /// Name in ids, tables and files: `decode/f16/h32-8/d128/1x8192/causal`.
    pub fn name(&self) -> String {
        let heads = match self.heads == self.kv_heads {
            true => format!("h{}", self.heads),
            false => format!("h{}-{}", self.heads, self.kv_heads),
        };
        let mask = if self.causal { "/causal" } else { "" };
        format!(
            "{}/{}/{heads}/d{}/{}x{}{mask}",
            self.kind,
            self.element.name(),
            self.dim,
            self.queries,
            self.keys,
        )
    }

    /// The problem: K and V head by head, as the caches have them, Q and O token by token.
    pub fn problem(&self) -> AttentionProblem {
        let mut problem =
            AttentionProblem::new(self.heads, self.kv_heads, self.dim, self.queries, self.keys);
        problem.mask = match self.causal {
            true => Mask::Causal,
            false => Mask::None,
        };
        problem.query.element = self.element;
        problem.output.element = self.element;
        problem.key = TensorLayout::head_major(self.element, self.keys, self.kv_heads, self.dim);
        problem.value = problem.key;
        problem
    }

    /// Elements of Q, and of O.
    pub fn query_elements(&self) -> u64 {
        u64::from(self.queries) * u64::from(self.heads) * u64::from(self.dim)
    }

    /// Elements of K, and of V.
    pub fn key_elements(&self) -> u64 {
        u64::from(self.keys) * u64::from(self.kv_heads) * u64::from(self.dim)
    }

    /// Pairs of a query and a key that it sees, for one head.
    pub fn visible_pairs(&self) -> u64 {
        let (queries, keys) = (u64::from(self.queries), u64::from(self.keys));
        match self.causal {
            false => queries * keys,
            true => (0..queries)
                .map(|query| (keys + query + 1).saturating_sub(queries).min(keys))
                .sum(),
        }
    }

    /// Operations: a multiplication and an addition for each element of the head, once for the
    /// score and once for the output. The softmax is not counted.
    pub fn flops(&self) -> u64 {
        4 * u64::from(self.heads) * self.visible_pairs() * u64::from(self.dim)
    }

    /// Bytes that have to move at the least: Q, K and V read once and O written once.
    pub fn bytes(&self) -> u64 {
        2 * (self.query_elements() + self.key_elements()) * self.element.bits() / 8
    }
}
