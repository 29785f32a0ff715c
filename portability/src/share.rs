//! Every Nth kernel.

use std::{fmt, str::FromStr};

use anyhow::{Context, Error, Result, ensure};

/// Which kernels are taken: in the order of names, so that each family of kernels has its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    first: usize,
    of: usize,
}

impl Share {
    /// Every kernel.
    pub const ALL: Share = Share { first: 0, of: 1 };

    /// Whether the kernel at `index` is one of them.
    pub fn has(&self, index: usize) -> bool {
        index % self.of == self.first
    }
}

impl FromStr for Share {
    type Err = Error;

    /// Reads `K/N` with K from 1 to N.
    fn from_str(text: &str) -> Result<Share> {
        let meant = || format!("K/N was expected, with K from 1 to N; {text:?} was given");
        let (first, of) = text.split_once('/').with_context(meant)?;
        let first: usize = first.parse().with_context(meant)?;
        let of: usize = of.parse().with_context(meant)?;
        ensure!((1..=of).contains(&first), meant());
        Ok(Share {
            first: first - 1,
            of,
        })
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if *self == Share::ALL {
            return f.write_str("all of them");
        }
        write!(f, "share {}/{}", self.first + 1, self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_n_are_all_kernels_once() {
        for index in 0..20 {
            let shares = (1..=3).map(|k| format!("{k}/3").parse::<Share>().unwrap());
            assert_eq!(shares.filter(|share| share.has(index)).count(), 1);
            assert!(Share::ALL.has(index));
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "3", "0/3", "4/3", "a/3", "1/b", "1/0"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
