//! The body of the fuzz target `tree` on random bytes, so that it is run where nobody fuzzes.

#[path = "../../fuzz/fuzz_targets/tree_body.rs"]
mod tree_body;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_bytes_break_a_builder(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        tree_body::run(&bytes);
    }

    /// Small numbers, of which more are trees.
    #[test]
    fn no_small_numbers_break_a_builder(bytes in proptest::collection::vec(0u8..12, 0..400)) {
        tree_body::run(&bytes);
    }
}
