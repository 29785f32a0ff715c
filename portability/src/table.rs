//! Counts of what was checked, as a table.

use std::{collections::BTreeMap, fmt};

/// How many kernels passed one check, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Found right.
    pub passed: usize,
    /// Found wrong.
    pub failed: usize,
    /// Not asked, for a reason that the check's name or the docs give.
    pub not_asked: usize,
}

/// Checks in the order in which they were first counted.
#[derive(Debug, Default)]
pub struct Table {
    order: Vec<&'static str>,
    counts: BTreeMap<&'static str, Count>,
}

impl Table {
    /// The count of `check`, to be raised.
    pub fn count(&mut self, check: &'static str) -> &mut Count {
        if !self.counts.contains_key(check) {
            self.order.push(check);
        }
        self.counts.entry(check).or_default()
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Table) {
        for check in &other.order {
            let more = other.counts[check];
            let count = self.count(check);
            count.passed += more.passed;
            count.failed += more.failed;
            count.not_asked += more.not_asked;
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let width = self
            .order
            .iter()
            .map(|name| name.len())
            .max()
            .unwrap_or(5)
            .max(5);
        writeln!(
            f,
            "| {:width$} | passed | failed | not asked |\n|-{:-<width$}-|-------:|-------:|----------:|",
            "check", ""
        )?;
        for check in &self.order {
            let count = self.counts[check];
            writeln!(
                f,
                "| {check:width$} | {:6} | {:6} | {:9} |",
                count.passed, count.failed, count.not_asked
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_keep_their_order() {
        let (mut one, mut other) = (Table::default(), Table::default());
        one.count("z").passed += 2;
        other.count("a").failed += 1;
        other.count("z").not_asked += 3;
        one.add(&other);
        let expected = "\
| check | passed | failed | not asked |
|-------|-------:|-------:|----------:|
| z     |      2 |      0 |         3 |
| a     |      0 |      1 |         0 |
";
        assert_eq!(one.to_string(), expected);
    }
}
