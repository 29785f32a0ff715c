//! Tokens that are found in a text by their name: control tokens and user-defined ones.

use std::collections::HashMap;

use super::TokenType;

#[derive(Clone, Debug)]
struct Named {
    name: String,
    id: u32,
    control: bool,
}

/// Control and user-defined tokens, by the first byte of their names.
#[derive(Clone, Debug)]
pub(super) struct NamedTokens {
    by_first_byte: HashMap<u8, Vec<Named>>, // longest name first
}

/// A named token in a text.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) id: u32,
}

impl NamedTokens {
    pub(super) fn new(tokens: &[String], types: &[TokenType]) -> Self {
        let mut by_first_byte: HashMap<u8, Vec<Named>> = HashMap::new();
        for ((id, token), kind) in (0u32..).zip(tokens).zip(types) {
            let control = match kind {
                TokenType::Control => true,
                TokenType::UserDefined => false,
                TokenType::Text | TokenType::Byte => continue,
            };
            if let Some(first) = token.bytes().next() {
                let name = token.clone();
                by_first_byte
                    .entry(first)
                    .or_default()
                    .push(Named { name, id, control });
            }
        }
        for named in by_first_byte.values_mut() {
            named.sort_by_key(|token| std::cmp::Reverse(token.name.len()));
        }
        Self { by_first_byte }
    }

    /// The leftmost named token in `text`, and of those that start there the longest. Control
    /// tokens count only with `parse_special`.
    pub(super) fn find(&self, text: &str, parse_special: bool) -> Option<Found> {
        // A name is UTF-8, so where its bytes match is a boundary of characters.
        text.bytes().enumerate().find_map(|(start, byte)| {
            let rest = &text.as_bytes()[start..];
            let token = self.by_first_byte.get(&byte)?.iter().find(|token| {
                (parse_special || !token.control) && rest.starts_with(token.name.as_bytes())
            })?;
            let end = start + token.name.len();
            Some(Found {
                start,
                end,
                id: token.id,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> NamedTokens {
        let names = ["<a>", "<a><b>", "é", "text"].map(str::to_owned);
        let (control, user) = (TokenType::Control, TokenType::UserDefined);
        NamedTokens::new(&names, &[control, control, user, TokenType::Text])
    }

    #[test]
    fn leftmost_and_longest_name_is_found() {
        let found = tokens().find("text <a><b><a>", true);
        assert_eq!(
            found,
            Some(Found {
                start: 5,
                end: 11,
                id: 1
            })
        );
    }

    #[test]
    fn control_tokens_are_text_unless_asked_for() {
        assert_eq!(tokens().find("<a>", false), None);
        let found = tokens().find("<a>é", false);
        assert_eq!(
            found,
            Some(Found {
                start: 3,
                end: 5,
                id: 2
            })
        );
    }
}
