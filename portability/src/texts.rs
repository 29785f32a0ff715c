//! The texts of every kernel that the library can emit on any of its profiles.

use std::collections::BTreeSet;

use crate::share::Share;
use sunfleck::{gpu::Dialect, variants};

/// One text that a compiler may get to see.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text {
    /// The kernel's name, and `, unrolled` where its loops are written out.
    pub name: String,
    /// For naga: native targets, and Firefox.
    pub naga: String,
    /// For Tint: Chromium, Node and Deno.
    pub tint: String,
    /// Whether a driver behind Tint gets to see it too.
    pub to_pipeline: bool,
}

/// SwiftShader compiles for a second, more than all other compilers together: it sees one kernel of so many.
const TO_A_PIPELINE: usize = 32;

/// The texts of a share of the kernels.
pub fn of(share: Share) -> Vec<Text> {
    let all = all().into_iter().enumerate();
    let mut texts: Vec<Text> = all
        .filter_map(|(at, text)| share.has(at).then_some(text))
        .collect();
    for text in texts.iter_mut().step_by(TO_A_PIPELINE) {
        text.to_pipeline = true;
    }
    texts
}

/// Every text once, in the order of names. Kernels whose loops are written out on some profile have two.
fn all() -> Vec<Text> {
    let mut texts = BTreeSet::new();
    for (_, profile) in variants::profiles() {
        for kernel in variants::kernels(&profile) {
            let plain = Text {
                name: kernel.name.clone(),
                naga: kernel.wgsl(Dialect::Naga),
                tint: kernel.wgsl(Dialect::Tint),
                to_pipeline: false,
            };
            if profile.unrolled_shaders {
                let unrolled = Text {
                    name: format!("{}, unrolled", kernel.name),
                    naga: kernel.unrolled_wgsl(Dialect::Naga),
                    tint: kernel.unrolled_wgsl(Dialect::Tint),
                    to_pipeline: false,
                };
                if unrolled.naga != plain.naga {
                    texts.insert(unrolled);
                }
            }
            texts.insert(plain);
        }
    }
    texts.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_kernel_with_marked_loops_are_there() {
        let texts = all();
        let unrolled = texts
            .iter()
            .filter(|text| text.name.ends_with(", unrolled"));
        assert!(unrolled.count() > 20);
    }

    #[test]
    fn a_name_means_one_text() {
        for pair in all().windows(2) {
            assert!(pair[0].name < pair[1].name, "two texts: {}", pair[0].name);
        }
    }
}
