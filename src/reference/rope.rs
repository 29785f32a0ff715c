//! Rotary position embedding on interleaved pairs (Su et al. 2021).

use super::{Element, ReferenceError, check_argument, check_length};

/// Angles of the rotation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope<'a> {
    /// How many leading elements of a head are rotated: even, at most the head's size. The rest pass
    /// through.
    pub dims: usize,
    /// Base of the frequencies; pair `i` turns by `position * base^(-2i/dims)`.
    pub base: f64,
    /// Factor on every position: 1, or `1 / factor` under linear context scaling.
    pub position_scale: f64,
    /// One divisor a pair `[dims / 2]` on its frequency (Llama 3's `rope_freqs`).
    pub frequency_divisors: Option<&'a [f64]>,
    /// Factor on what was rotated: 1 but for YaRN and LongRoPE.
    pub magnitude: f64,
}

/// Divisors of the frequencies under YaRN with a ramp that is linear in the pair's index, as
/// `_compute_yarn_parameters` in `transformers` has it: a blend of the frequencies as they are and divided by `factor`.
/// `betas` are the turns in the original context above which a pair stays and below which it is stretched whole.
pub fn yarn_divisors(
    dims: usize,
    base: f64,
    factor: f64,
    original_context: u32,
    betas: [f64; 2],
) -> Vec<f64> {
    // Solved for the dimension: turns = context * base^(-2 pair / dims) / (2 pi).
    let dimension = |turns: f64| {
        let context = f64::from(original_context);
        dims as f64 * (context / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * base.ln())
    };
    let low = dimension(betas[0]).floor().max(0.0);
    let mut high = dimension(betas[1]).ceil().min(dims as f64 - 1.0);
    if high - low < 0.001 {
        high = low + 0.001;
    }
    (0..dims / 2)
        .map(|pair| {
            let frequency = base.powf(-2.0 * pair as f64 / dims as f64);
            let ramp = ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
            let kept = 1.0 - ramp;
            frequency / (frequency / factor * (1.0 - kept) + frequency * kept)
        })
        .collect()
}

impl Rope<'_> {
    /// Rotation of `dims` elements with `base`, unscaled.
    pub fn new(dims: usize, base: f64) -> Self {
        Rope {
            dims,
            base,
            position_scale: 1.0,
            frequency_divisors: None,
            magnitude: 1.0,
        }
    }

    /// Angle in radians of pair `pair` at `position`.
    pub fn angle(&self, position: u32, pair: usize) -> f64 {
        let exponent = -2.0 * pair as f64 / self.dims as f64;
        let divisor = self
            .frequency_divisors
            .map_or(1.0, |divisors| divisors[pair]);
        f64::from(position) * self.position_scale * self.base.powf(exponent) / divisor
    }
}

/// Rotates the pairs `(2i, 2i + 1)` of every head by the angle of its token's position.
///
/// * `x`: `[token, head, head_dim]`
/// * `positions`: `[token]`
/// * returns `[token, head, head_dim]`
///
/// # Errors
/// [`ReferenceError`] when `x` does not fit, or `rope.dims` is odd or exceeds `head_dim`.
pub fn rope(
    x: &[impl Element],
    positions: &[u32],
    heads: usize,
    head_dim: usize,
    rope: &Rope<'_>,
) -> Result<Vec<f64>, ReferenceError> {
    check_argument(head_dim > 0, "head_dim", "at least one element", head_dim)?;
    check_length(
        "x",
        "[token, head, head_dim]",
        x,
        &[positions.len(), heads, head_dim],
    )?;
    check_argument(
        rope.dims.is_multiple_of(2) && rope.dims <= head_dim,
        "rope.dims",
        "an even number, at most head_dim",
        format!("{} with head_dim {head_dim}", rope.dims),
    )?;
    if let Some(divisors) = rope.frequency_divisors {
        check_length(
            "frequency_divisors",
            "[dims / 2]",
            divisors,
            &[rope.dims / 2],
        )?;
    }
    let mut y: Vec<f64> = x.iter().map(|&x| x.into()).collect();
    for (token, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            let start = (token * heads + head) * head_dim;
            for (pair, y) in y[start..][..rope.dims].chunks_exact_mut(2).enumerate() {
                let (sine, cosine) = rope.angle(position, pair).sin_cos();
                let (even, odd) = (y[0] * rope.magnitude, y[1] * rope.magnitude);
                y[0] = even * cosine - odd * sine;
                y[1] = even * sine + odd * cosine;
            }
        }
    }
    Ok(y)
}

/// As [`rope`], for the pairs `(i, i + dims / 2)` of every head (GPT-NeoX; Qwen).
///
/// # Errors
/// As [`rope`].
pub fn rope_halves(
    x: &[impl Element],
    positions: &[u32],
    heads: usize,
    head_dim: usize,
    turn: &Rope<'_>,
) -> Result<Vec<f64>, ReferenceError> {
    // Where an element stands among neighbours.
    let pairs = turn.dims / 2;
    let place = |i: usize| match i {
        _ if i >= 2 * pairs => i,
        _ => i % pairs * 2 + i / pairs,
    };
    let at = |i: usize| i / head_dim.max(1) * head_dim + place(i % head_dim.max(1));
    let mut neighbours: Vec<f64> = x.iter().map(|&x| x.into()).collect();
    for (i, &value) in x.iter().enumerate() {
        if let Some(neighbour) = neighbours.get_mut(at(i)) {
            *neighbour = value.into();
        }
    }
    let turned = rope(&neighbours, positions, heads, head_dim, turn)?;
    Ok((0..turned.len()).map(|i| turned[at(i)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_stretches_slow_ones() {
        // By hand, for 8 dimensions, base 10,000 and 100 tokens of context stretched by 4: 32 turns are reached at
        // dimension 8 ln(100 / 201.06) / 18.42 = -0.30, cut to 0; one turn at 8 ln(100 / 6.2832) / 18.42 = 1.20, up
        // to 2. The ramp is 0, 1/2, 1, 1.
        let divisors = yarn_divisors(8, 10_000.0, 4.0, 100, [32.0, 1.0]);
        for (divisor, by_hand) in divisors.iter().zip([1.0, 1.6, 4.0, 4.0]) {
            assert!((divisor - by_hand).abs() < 1e-12, "{divisors:?}");
        }
        let turn = Rope {
            magnitude: 2.0,
            ..Rope::new(2, 10_000.0)
        };
        assert_eq!(
            rope(&[1.0f32, 0.0, 5.0], &[0], 1, 3, &turn).unwrap(),
            [2.0, 0.0, 5.0]
        );
    }

    #[test]
    fn position_zero_changes_nothing() {
        let x = [1.0f32, 2.0, 3.0, 4.0];
        let y = rope(&x, &[0], 1, 4, &Rope::new(4, 10_000.0)).unwrap();
        assert_eq!(y, [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn first_pair_turns_by_one_radian_a_position() {
        let x = [1.0f32, 0.0, 1.0, 0.0];
        let y = rope(&x, &[2], 1, 4, &Rope::new(4, 100.0)).unwrap();
        // Pair 1 turns 100^(-2/4) = a tenth as fast.
        let expected = [2f64.cos(), 2f64.sin(), 0.2f64.cos(), 0.2f64.sin()];
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn scores_depend_on_the_distance_only() {
        let (q, k) = ([0.3f64, -1.0, 0.7, 0.2], [1.1f64, 0.4, -0.6, 0.9]);
        let turn = Rope::new(4, 10_000.0);
        let score = |query_at: u32, key_at: u32| {
            dot(
                &rope(&q, &[query_at], 1, 4, &turn).unwrap(),
                &rope(&k, &[key_at], 1, 4, &turn).unwrap(),
            )
        };
        assert!((score(5, 2) - score(1003, 1000)).abs() < 1e-12);
    }

    #[test]
    fn elements_past_the_rotated_dims_pass_through() {
        let y = rope(&[1.0f32, 0.0, 5.0, 6.0], &[1], 1, 4, &Rope::new(2, 1e4)).unwrap();
        assert_eq!(y[2..], [5.0, 6.0]);
        assert_ne!(y[0], 1.0);
    }

    #[test]
    fn linear_scaling_stretches_positions() {
        let x = [1.0f32, 0.5, -1.0, 2.0];
        let halved = Rope {
            position_scale: 0.5,
            ..Rope::new(4, 1e4)
        };
        assert_eq!(
            rope(&x, &[6], 1, 4, &halved).unwrap(),
            rope(&x, &[3], 1, 4, &Rope::new(4, 1e4)).unwrap()
        );
    }

    #[test]
    fn halves_turn_the_first_element_with_the_first_of_the_second_half() {
        let x = [1.0f32, 0.0, 0.0, 1.0, 9.0];
        let y = rope_halves(&x, &[2], 1, 5, &Rope::new(4, 100.0)).unwrap();
        // Pair 0 is elements 0 and 2, pair 1 is 1 and 3, a tenth as fast.
        let expected = [2f64.cos(), -0.2f64.sin(), 2f64.sin(), 0.2f64.cos(), 9.0];
        for (y, expected) in y.iter().zip(expected) {
            assert!((y - expected).abs() < 1e-15, "{y} {expected}");
        }
        assert!(rope_halves(&x, &[2], 1, 5, &Rope::new(6, 100.0)).is_err());
    }

    #[test]
    fn odd_or_too_many_dims_are_refused() {
        assert!(rope(&[1.0f32; 4], &[1], 1, 4, &Rope::new(3, 1e4)).is_err());
        assert!(rope(&[1.0f32; 4], &[1], 1, 4, &Rope::new(6, 1e4)).is_err());
    }
}
