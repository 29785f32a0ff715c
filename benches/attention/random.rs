//! Numbers that fill tensors.

use sunfleck::reference::philox::{philox4x32_10, uniform};

/// `count` numbers of mean 0 and variance 1 (uniform), the same for the same `seed` everywhere.
pub fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let width = 12f32.sqrt();
    let mut numbers = Vec::with_capacity(count + 3);
    for block in 0..count.div_ceil(4) as u32 {
        let words = philox4x32_10([block, 0, 0, 0], [seed, 0]);
        numbers.extend(words.map(|word| (uniform(word) - 0.5) * width));
    }
    numbers.truncate(count);
    numbers
}
