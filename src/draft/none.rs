//! The drafter that never drafts: plain decoding.

use super::{DraftContext, DraftCost, DraftError, DraftLimits, Drafted, Drafter};
use crate::tree::DraftTree;

/// Proposes nothing, so that every step decodes one token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoDrafter;

impl Drafter for NoDrafter {
    fn name(&self) -> &str {
        "none"
    }

    fn limits(&self) -> DraftLimits {
        DraftLimits::new(1, 0, false, DraftCost::Free)
    }

    fn draft(&mut self, context: &DraftContext<'_>) -> Result<Drafted, DraftError> {
        Ok(Drafted::OnHost(DraftTree::root_only(context.root()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draft_is_the_last_committed_token_alone() {
        let drafted = NoDrafter.draft(&DraftContext::new(&[3, 4], 8, 8)).unwrap();
        assert_eq!(drafted, Drafted::OnHost(DraftTree::root_only(4)));
    }

    #[test]
    fn no_token_and_no_room_are_errors() {
        let draft = |context: &DraftContext<'_>| NoDrafter.draft(context).unwrap_err();
        assert_eq!(draft(&DraftContext::new(&[], 8, 8)), DraftError::NoToken);
        assert_eq!(draft(&DraftContext::new(&[1], 0, 8)), DraftError::NoRoom);
    }
}
