//! What a step's tokens are to an answer: handed out in order, up to the one that ends it.

use super::{Finish, GenerateOptions, Origin, Token, step::StepResult};

/// What a step gives an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Given {
    /// Tokens to be handed out.
    pub tokens: Vec<Token>,
    /// Tokens of the step that are part of the text, the one that ended it included.
    pub kept: usize,
    /// Why the answer ended, if it did.
    pub finish: Option<Finish>,
}

impl Given {
    /// Of a step that gave `result`, of whose tokens the first `accepted` were drafted, to an answer that had
    /// `already` tokens.
    pub fn new(
        result: StepResult,
        accepted: usize,
        has_draft: bool,
        already: usize,
        options: &GenerateOptions,
    ) -> Self {
        let mut log_probabilities = result.log_probabilities.into_iter();
        let mut given = Self {
            tokens: Vec::new(),
            kept: 0,
            finish: None,
        };
        for (i, id) in result.tokens.into_iter().enumerate() {
            if already + given.tokens.len() >= options.max_tokens {
                given.finish = Some(Finish::MaxTokens);
                break;
            }
            given.kept += 1;
            if options.end_tokens.contains(&id) {
                given.finish = Some(Finish::EndToken);
                break;
            }
            let origin = match (i < accepted, has_draft) {
                (true, _) => Origin::Drafted,
                (false, true) => Origin::Bonus,
                (false, false) => Origin::Plain,
            };
            given.tokens.push(Token {
                id,
                origin,
                log_probabilities: log_probabilities.next(),
            });
            if already + given.tokens.len() >= options.max_tokens {
                given.finish = Some(Finish::MaxTokens);
                break;
            }
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_inside_a_step() {
        let options = GenerateOptions {
            max_tokens: 5,
            end_tokens: vec![9],
            ..Default::default()
        };
        let step = |tokens: &[u32], already| {
            let result = StepResult {
                tokens: tokens.to_vec(),
                ..Default::default()
            };
            let given = Given::new(result, 1, true, already, &options);
            let ids: Vec<u32> = given.tokens.iter().map(|token| token.id).collect();
            (ids, given.kept, given.finish)
        };
        assert_eq!(step(&[1, 2], 0), (vec![1, 2], 2, None));
        assert_eq!(step(&[1, 9, 2], 0), (vec![1], 2, Some(Finish::EndToken)));
        assert_eq!(
            step(&[1, 2, 3], 3),
            (vec![1, 2], 2, Some(Finish::MaxTokens))
        );
        let result = StepResult {
            tokens: vec![1, 2],
            ..Default::default()
        };
        let origins = Given::new(result, 1, true, 0, &options).tokens;
        let origins: Vec<Origin> = origins.iter().map(|token| token.origin).collect();
        assert_eq!(origins, [Origin::Drafted, Origin::Bonus]);
    }
}
