//! Which kernels a plan chose, from its explanation.

/// Names of the kernels in the explanation of a plan, the one that computes calls of `rows` packed rows
/// first.
pub fn in_order(explanation: &str, rows: u32) -> Vec<String> {
    let mut names: Vec<_> = explanation
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.starts_with("attention/"))
        .collect();
    // A prefill kernel, where there is one for so many rows; or the smallest block that holds
    // them; or the largest.
    let chosen = names
        .iter()
        .position(|(name, _)| name.contains("/prefill"))
        .or_else(|| {
            names
                .iter()
                .position(|(_, text)| block_rows(text).is_some_and(|block| block >= rows))
        })
        .or_else(|| {
            names
                .iter()
                .rposition(|(_, text)| block_rows(text).is_some())
        });
    if let Some(chosen) = chosen {
        names[..=chosen].rotate_right(1);
    }
    names.into_iter().map(|(name, _)| name.to_owned()).collect()
}

/// `8` of `up to 8 packed rows a workgroup, ...`.
fn block_rows(text: &str) -> Option<u32> {
    let text = text.strip_prefix("up to ")?;
    let (number, rest) = text.split_once(' ')?;
    rest.starts_with("packed rows")
        .then(|| number.parse().ok())
        .flatten()
}

/// Whether the kernel of this name computes with cooperative matrices.
pub fn on_matrices(name: &str) -> bool {
    name.split('/')
        .nth(1)
        .is_some_and(|family| family.ends_with("_cooperative"))
}

/// A name as short as a table needs it: family, and what follows the mask. Storage, head size and
/// mask are in the case's name.
pub fn short(name: &str) -> String {
    let parts: Vec<_> = name.split('/').collect();
    match parts[..] {
        [_, family, _, _, _, tile, ref rest @ ..] => {
            let lanes = match rest.first() {
                Some(tag) if tag.contains(char::is_numeric) && !is_element(tag) => {
                    format!(" {tag}")
                }
                _ => String::new(),
            };
            format!("{family} {tile}{lanes}")
        }
        _ => name.to_owned(),
    }
}

fn is_element(tag: &str) -> bool {
    matches!(tag, "f32" | "f16" | "bf16")
}
