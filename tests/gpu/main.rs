//! Every kernel against its f64 twin, on every software adapter.

mod adapters;
mod attention;
mod invariance;
mod layouts;
mod ops;
mod plans;
mod random;
mod verify;
