//! The texts of every kernel that the library can emit on any of its profiles.

use std::collections::BTreeMap;

use sunfleck::{gpu::Dialect, variants};

/// One text that a compiler may get to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// The kernel's name, and `, unrolled` where its loops are written out.
    pub name: String,
    /// For naga: native targets, and Firefox.
    pub naga: String,
    /// For Tint: Chromium, Node and Deno.
    pub tint: String,
}

/// Every text once. Kernels whose loops are written out on some profile have two.
pub fn all() -> Vec<Text> {
    let mut texts = BTreeMap::new();
    for (_, profile) in variants::profiles() {
        for kernel in variants::kernels(&profile) {
            let plain = Text {
                name: kernel.name.clone(),
                naga: kernel.wgsl(Dialect::Naga),
                tint: kernel.wgsl(Dialect::Tint),
            };
            if profile.unrolled_shaders {
                let unrolled = Text {
                    name: format!("{}, unrolled", kernel.name),
                    naga: kernel.unrolled_wgsl(Dialect::Naga),
                    tint: kernel.unrolled_wgsl(Dialect::Tint),
                };
                if unrolled.naga != plain.naga {
                    texts.insert(unrolled.name.clone(), unrolled);
                }
            }
            texts.insert(plain.name.clone(), plain);
        }
    }
    texts.into_values().collect()
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
        assert!(texts.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
