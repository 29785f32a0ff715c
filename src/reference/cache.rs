//! The commit of an accepted path: the twin of the cache's commit kernel.

use super::{ReferenceError, check_argument, check_length};

/// The axes of a contiguous cache of keys, or of values: `[outer, slot, inner]`. A cache
/// `[layer, slot, kv_head, head_dim]` has `outer = layers` and `inner = kv_heads * head_dim`; a cache
/// `[layer, kv_head, slot, head_dim]` has `outer = layers * kv_heads` and `inner = head_dim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheShape {
    /// Product of the axes before the slots.
    pub outer: usize,
    /// Slots: the cache's capacity in positions.
    pub slots: usize,
    /// Product of the axes after the slots.
    pub inner: usize,
}

/// The cache after an accepted path was committed.
///
/// Before, the tree's node `n` lies in slot `first + n`, where `first` is the number of slots
/// committed before the root. After, the path's `i`-th node lies in slot `first + i`, and
/// `first + path.len()` slots are committed; later slots keep what they held, which nobody reads.
///
/// `path` is [`Verified::path`](super::verify::Verified::path): it starts with the root and ascends,
/// so a slot's source never lies before it, and copying in order never overwrites a later source.
///
/// # Errors
/// [`ReferenceError`] when the cache does not fit `shape`, or `path` does not start at 0, ascend, and
/// stay inside the cache.
pub fn commit<T: Copy>(
    cache: &[T],
    shape: &CacheShape,
    first: usize,
    path: &[u32],
) -> Result<Vec<T>, ReferenceError> {
    let &CacheShape {
        outer,
        slots,
        inner,
    } = shape;
    check_length(
        "cache",
        "[outer, slot, inner]",
        cache,
        &[outer, slots, inner],
    )?;
    check_argument(
        path.first() == Some(&0) && path.is_sorted_by(|a, b| a < b),
        "path",
        "nodes that start with 0 and ascend",
        format!("{path:?}"),
    )?;
    let last = path.last().copied().unwrap_or(0) as usize;
    check_argument(
        first.saturating_add(last) < slots,
        "path",
        "nodes whose slots are inside the cache",
        format!("slot {first} + {last} of {slots}"),
    )?;
    let mut committed = cache.to_vec();
    if cache.is_empty() {
        return Ok(committed);
    }
    for outer in 0..outer {
        let start = (outer * slots + first) * inner;
        for (to, &from) in path.iter().enumerate() {
            let from = start + from as usize * inner;
            committed.copy_within(from..from + inner, start + to * inner);
        }
    }
    Ok(committed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepted_slots_move_down_in_every_layer() {
        let shape = CacheShape {
            outer: 2,
            slots: 6,
            inner: 2,
        };
        let cache: Vec<u32> = (0..24).collect();
        // One slot is committed; nodes 0 to 4 lie in slots 1 to 5.
        let committed = commit(&cache, &shape, 1, &[0, 2, 3]).unwrap();
        assert_eq!(committed[..8], [0, 1, 2, 3, 6, 7, 8, 9]);
        assert_eq!(committed[12..20], [12, 13, 14, 15, 18, 19, 20, 21]);
    }

    #[test]
    fn chain_stays_where_it_is() {
        let shape = CacheShape {
            outer: 1,
            slots: 5,
            inner: 1,
        };
        let cache = [1, 2, 3, 4, 5];
        assert_eq!(commit(&cache, &shape, 1, &[0, 1, 2]).unwrap(), cache);
        assert_eq!(commit(&cache, &shape, 4, &[0]).unwrap(), cache);
    }

    #[test]
    fn path_outside_the_cache_is_refused() {
        let shape = CacheShape {
            outer: 1,
            slots: 3,
            inner: 1,
        };
        let cache = [1, 2, 3];
        assert!(commit(&cache, &shape, 2, &[0, 1]).is_err());
        assert!(commit(&cache, &shape, usize::MAX, &[0]).is_err());
        assert!(commit(&cache, &shape, 0, &[0, 2, 1]).is_err());
        assert!(commit(&cache, &shape, 0, &[1]).is_err());
        assert!(commit(&cache, &shape, 0, &[]).is_err());
        assert!(commit(&cache[1..], &shape, 0, &[0]).is_err());
    }

    proptest! {
        #[test]
        fn every_committed_slot_holds_its_node(
            first in 0usize..5,
            steps in prop::collection::vec(1u32..4, 0..6),
            outer in 1usize..4,
            inner in 1usize..4,
        ) {
            let mut path = vec![0];
            for step in steps {
                path.push(path.last().unwrap() + step);
            }
            let slots = first + *path.last().unwrap() as usize + 2;
            let shape = CacheShape { outer, slots, inner };
            let cache: Vec<usize> = (0..outer * slots * inner).collect();
            let committed = commit(&cache, &shape, first, &path).unwrap();
            for o in 0..outer {
                for slot in 0..first + path.len() {
                    let source = if slot < first { slot } else { first + path[slot - first] as usize };
                    for i in 0..inner {
                        prop_assert_eq!(
                            committed[(o * slots + slot) * inner + i],
                            cache[(o * slots + source) * inner + i]
                        );
                    }
                }
            }
        }
    }
}
