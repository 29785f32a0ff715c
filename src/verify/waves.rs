//! How many rows of a request are gone through before its walk goes on.
//!
//! A walk from the root down needs the rows on its path and no others. A GPU goes through all rows at once in the time
//! that it takes to wait for one; a CPU takes as long as there are rows. There the rows come in waves, each four times
//! as large as the one before, since a wave costs as much as some rows by itself, and the last large enough for all that may be left. What a row gives does not depend on
//! the wave in which it comes.

use crate::gpu::AdapterClass;

/// Rows of a request in each wave. The last has room for `max_nodes`.
pub(super) fn widths(max_nodes: u32, class: AdapterClass) -> Vec<u32> {
    let mut widths = Vec::new();
    if class == AdapterClass::Software {
        let grown = std::iter::successors(Some(2u32), |width| width.checked_mul(4));
        widths.extend(grown.take_while(|width| width * 2 <= max_nodes));
    }
    widths.push(max_nodes);
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waves_grow_on_a_cpu_and_end_with_all_nodes() {
        let of = |nodes| widths(nodes, AdapterClass::Software);
        assert_eq!(of(1), [1]);
        assert_eq!(of(3), [3]);
        assert_eq!(of(4), [2, 4]);
        assert_eq!(of(16), [2, 8, 16]);
        assert_eq!(of(17), [2, 8, 17]);
        assert_eq!(of(64), [2, 8, 32, 64]);
        assert_eq!(of(4096).len(), 7);
        assert_eq!(widths(64, AdapterClass::Hardware), [64]);
        assert_eq!(widths(64, AdapterClass::Unknown), [64]);
    }
}
