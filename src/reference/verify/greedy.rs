//! Greedy verification: the twin of `verify/greedy.wgsl`.

use super::Verified;
use crate::reference::{ReferenceError, check_length, reduce::NO_ID};
use crate::tree::DraftTree;

/// Greedy verification: descend while a child has the token that the target model would choose.
///
/// `argmax[node]` is the likeliest token after each node (ties to the lowest id), or
/// [`NO_ID`] for logits that are all NaN, which no child matches. Of several
/// children with that token (an Iid draw) the first is taken. The kept tokens are exactly those of
/// plain greedy decoding.
///
/// # Errors
/// [`ReferenceError::Length`] when there is not one argmax a node.
pub fn greedy(tree: &DraftTree, argmax: &[u32]) -> Result<Verified, ReferenceError> {
    check_length("argmax", "[node]", argmax, &[tree.len()])?;
    let mut at = 0;
    let mut verified = Verified {
        path: vec![0],
        tokens: Vec::new(),
    };
    loop {
        let wanted = argmax[at];
        verified.tokens.push(wanted);
        let matching = tree
            .children(at)
            .find(|&child| wanted != NO_ID && tree.tokens()[child] == wanted);
        let Some(child) = matching else {
            return Ok(verified);
        };
        verified.path.push(child as u32);
        at = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{DrawKind, NONE};
    use proptest::prelude::*;

    #[test]
    fn chain_is_kept_up_to_the_first_difference() {
        let tree = DraftTree::chain(1, &[2, 3, 4]).unwrap();
        let verified = greedy(&tree, &[2, 3, 9, 5]).unwrap();
        assert_eq!(verified.path, [0, 1, 2]);
        assert_eq!(verified.tokens, [2, 3, 9]);
        assert_eq!((verified.accepted(), verified.bonus()), (2, 9));
    }

    #[test]
    fn whole_chain_is_kept_with_its_bonus() {
        let tree = DraftTree::chain(1, &[2, 3]).unwrap();
        assert_eq!(greedy(&tree, &[2, 3, 4]).unwrap().tokens, [2, 3, 4]);
    }

    #[test]
    fn root_alone_gives_the_bonus() {
        let verified = greedy(&DraftTree::root_only(1), &[8]).unwrap();
        assert_eq!((verified.path, verified.tokens), (vec![0], vec![8]));
    }

    #[test]
    fn later_sibling_is_found() {
        let tree = DraftTree::merge(1, &[vec![2, 3], vec![4, 5]], 16).unwrap();
        // Nodes: 0 root, 1 = token 2, 2 = token 3, 3 = token 4, 4 = token 5.
        let verified = greedy(&tree, &[4, 0, 0, 5, 6]).unwrap();
        assert_eq!(
            (verified.path, verified.tokens),
            (vec![0, 3, 4], vec![4, 5, 6])
        );
    }

    #[test]
    fn first_of_equal_siblings_is_taken() {
        let tree = DraftTree::from_parents(vec![0, 5, 5], vec![NONE, 0, 0], DrawKind::Iid).unwrap();
        assert_eq!(greedy(&tree, &[5, 1, 1]).unwrap().path, [0, 1]);
    }

    #[test]
    fn row_without_a_number_matches_no_child() {
        let tree = DraftTree::chain(1, &[NO_ID]).unwrap();
        let verified = greedy(&tree, &[NO_ID, 2]).unwrap();
        assert_eq!((verified.accepted(), verified.bonus()), (0, NO_ID));
        assert!(greedy(&tree, &[2]).is_err());
    }

    /// A target model without randomness: the next token from the tokens so far.
    fn next(sequence: &[u32]) -> u32 {
        let sum = sequence
            .iter()
            .fold(1u32, |sum, &token| sum.wrapping_mul(31) ^ token);
        (sum >> 3) % 3
    }

    proptest! {
        #[test]
        fn kept_tokens_are_those_of_plain_decoding(
            sequences in prop::collection::vec(prop::collection::vec(0u32..3, 0..6), 0..12),
        ) {
            let tree = DraftTree::merge(0, &sequences, 1000).unwrap();
            let argmax: Vec<u32> = (0..tree.len())
                .map(|node| {
                    let path = tree.path_to(node).unwrap();
                    let tokens: Vec<u32> = path.iter().map(|&n| tree.tokens()[n as usize]).collect();
                    next(&tokens)
                })
                .collect();
            let verified = greedy(&tree, &argmax).unwrap();
            let mut plain = vec![0];
            for &token in &verified.tokens {
                prop_assert_eq!(token, next(&plain));
                plain.push(token);
            }
            // No child was passed over: the path ends where the draft has no such token.
            let last = *verified.path.last().unwrap() as usize;
            prop_assert!(tree.children(last).all(|child| tree.tokens()[child] != verified.bonus()));
        }
    }
}
