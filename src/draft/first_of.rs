//! One drafter, and where it proposes nothing another.

use super::{DraftContext, DraftError, DraftLimits, Drafted, Drafter, Outcome, Recording};

/// Takes the draft of the first drafter where it has at least `least` tokens, else the second's.
///
/// The usual pair is n-gram look-up, which costs nothing and is right where a text copies itself, and a
/// trained drafter for the rest. Both see every step.
pub struct FirstOf {
    name: String,
    first: Box<dyn Drafter>,
    second: Box<dyn Drafter>,
    least: usize,
    from_first: bool,
}

impl FirstOf {
    /// The pair; `least` below 1 counts as 1.
    pub fn new(first: Box<dyn Drafter>, second: Box<dyn Drafter>, least: usize) -> Self {
        FirstOf {
            name: format!("{}+{}", first.name(), second.name()),
            first,
            second,
            least: least.max(1),
            from_first: true,
        }
    }
}

impl Drafter for FirstOf {
    fn name(&self) -> &str {
        &self.name
    }

    fn limits(&self) -> DraftLimits {
        self.first.limits().either(self.second.limits())
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        let drafted = self.first.draft(context)?;
        self.from_first = drafted.depth() >= self.least;
        match self.from_first {
            true => Ok(drafted),
            false => self.second.draft(context),
        }
    }

    fn record(&mut self, recording: &mut Recording<'_>) -> Result<(), DraftError> {
        let drafting = recording.drafting;
        recording.drafting = drafting && self.from_first;
        self.first.record(recording)?;
        recording.drafting = drafting && !self.from_first;
        self.second.record(recording)?;
        recording.drafting = drafting;
        Ok(())
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        match self.from_first {
            true => self.first.observe(outcome),
            false => self.second.observe(outcome),
        }
    }

    fn explain(&self) -> Option<String> {
        self.first.explain().or_else(|| self.second.explain())
    }

    fn reset(&mut self) {
        self.first.reset();
        self.second.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::{NgramDrafter, NgramOptions, NoDrafter};
    use crate::tree::DraftTree;

    #[test]
    fn the_second_drafts_only_where_the_first_has_too_little() {
        let ngram = || Box::new(NgramDrafter::new(NgramOptions::default()).unwrap());
        let context = DraftContext::new(&[7, 8, 9, 1, 7, 8], 16, 2);
        let root = Drafted::OnHost(DraftTree::root_only(8));
        let mut both = FirstOf::new(Box::new(NoDrafter), ngram(), 1);
        assert_ne!(both.draft(&context), Ok(root.clone()));
        let mut long = FirstOf::new(ngram(), Box::new(NoDrafter), 3);
        assert_eq!(long.draft(&context), Ok(root));
        let mut short = FirstOf::new(ngram(), Box::new(NoDrafter), 2);
        assert_eq!(short.draft(&context).unwrap().tree().tokens(), [8, 9, 1]);
        assert_eq!(short.name(), "ngram+none");
    }
}
