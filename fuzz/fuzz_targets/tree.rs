//! Draft trees from anyone: no lists and no blob may make a builder panic or hang, and what is accepted is a tree that
//! survives the way through GPU memory.

#![no_main]

mod tree_body;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tree_body::run(bytes));
