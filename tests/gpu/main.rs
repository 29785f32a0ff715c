//! Every kernel against its f64 twin, on every software adapter.

mod adapters;
mod attention;
mod cache;
mod drawn;
mod examples;
mod fuzzed_trees;
mod invariance;
mod layouts;
mod lost;
mod ops;
mod plans;
mod random;
mod sampling;
mod supported;
mod trees;
mod verify;

/// Whether long tests run: `cargo xtask test --full`.
fn full() -> bool {
    std::env::var_os("SUNFLECK_FULL").is_some_and(|set| set != "0")
}
