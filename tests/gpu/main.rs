//! Every kernel against its f64 twin, on every software adapter.

mod adapters;
mod attention;
mod ops;
mod random;
