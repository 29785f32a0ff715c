//! What the fuzz target `tree` does with its bytes. `tests/gpu/fuzzed_trees.rs` does it too, with random ones.

use sunfleck::tree::{DraftTree, DrawKind, OptimalShape};

/// A number in a few bits, or any.
fn number(bytes: &mut impl Iterator<Item = u8>) -> u32 {
    match bytes.next().unwrap_or(0) {
        255 => u32::MAX,
        254 => u32::from_le_bytes(std::array::from_fn(|_| bytes.next().unwrap_or(0))),
        small => u32::from(small) % 24,
    }
}

fn check(tree: &DraftTree) {
    for node in 0..tree.len() {
        let path = tree.path_to(node).expect("every node has a path");
        assert_eq!(path.len() as u32, tree.depths()[node] + 1);
        assert!(path.iter().all(|above| tree.sees(node, *above as usize)));
        assert!(
            tree.children(node)
                .all(|child| tree.parents()[child] as usize == node)
        );
    }
    let stride = tree.len() + 3;
    let blob = tree.blob(stride).expect("there is room");
    let read = DraftTree::from_blob(&blob, stride, tree.draw());
    assert_eq!(&read.expect("a tree's own blob"), tree);
    let _ = tree.to_text(|token| token.to_string());
}

/// Builds a tree by one of the builders from bytes of no meaning, and checks what comes of it.
pub fn run(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let draw = match bytes.next().unwrap_or(0) % 3 {
        0 => DrawKind::TopK,
        1 => DrawKind::Iid,
        _ => DrawKind::WithoutReplacement,
    };
    let kind = bytes.next().unwrap_or(0) % 5;
    let count = usize::from(bytes.next().unwrap_or(0)) % 40;
    let tree = match kind {
        0 => {
            let tokens: Vec<u32> = (0..count).map(|_| number(&mut bytes)).collect();
            let parents = (0..count).map(|_| number(&mut bytes)).collect();
            DraftTree::from_parents(tokens, parents, draw)
        }
        1 => {
            let stride = count % 9;
            let words: Vec<u32> = (0..sunfleck::tree::blob_words(stride))
                .map(|_| number(&mut bytes))
                .collect();
            DraftTree::from_blob(&words, stride, draw)
        }
        2 => {
            let mut list = || -> Vec<u32> {
                let len = number(&mut bytes) as usize % 6;
                (0..len).map(|_| number(&mut bytes)).collect()
            };
            let candidates: Vec<Vec<u32>> = (0..4).map(|_| list()).collect();
            let paths: Vec<Vec<usize>> = (0..count)
                .map(|_| list().into_iter().map(|rank| rank as usize).collect())
                .collect();
            DraftTree::from_paths(1, &paths, &candidates)
        }
        3 => {
            let sequences: Vec<Vec<u32>> = (0..count)
                .map(|_| {
                    (0..number(&mut bytes) % 8)
                        .map(|_| number(&mut bytes))
                        .collect()
                })
                .collect();
            DraftTree::merge(0, &sequences, number(&mut bytes) as usize)
        }
        _ => {
            let mut list = |len: usize| -> Vec<f64> {
                (0..len)
                    .map(|_| f64::from(number(&mut bytes)) / 23.0)
                    .collect()
            };
            let (rates, draft, verify) = (list(count % 5), list(count % 7), list(count % 12));
            let Ok(shape) = OptimalShape::new(&rates, &draft, &verify) else {
                return;
            };
            let tokens = (0..shape.parents.len() as u32).collect();
            DraftTree::from_parents(tokens, shape.parents, DrawKind::TopK)
        }
    };
    if let Ok(tree) = tree {
        check(&tree);
    }
}
