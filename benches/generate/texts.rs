//! Texts at whose every place drafts are checked.

use serde_json::Value;
use sunfleck::{
    generate::{Session, TokenChoice},
    model::{ChatTemplate, Tokenizer},
    verify::Sampling,
};

use crate::{
    arguments::{Arguments, Texts},
    counts::Text,
    prompts,
};

/// Beginnings of the texts that the drafters were trained on: of made-up users' turns and what follows them, chats and
/// plain texts.
const BEGINNINGS: &str = include_str!("../../models/smollm2-135m-instruct/training_prompts.json");

/// `<|im_end|>`, and the token that ends a text.
const ENDS: [u32; 2] = [2, 0];

impl Text {
    fn begin(given: &[u32], greedy: bool) -> Self {
        Self {
            ids: given.to_vec(),
            written: vec![false; given.len()],
            greedy,
        }
    }

    fn push(&mut self, id: u32, written: bool) {
        self.ids.push(id);
        self.written.push(written);
    }

    /// Goes on as `choice` says to the end of the turn, or to `length` tokens.
    async fn write(
        &mut self,
        session: &mut Session,
        choice: TokenChoice,
        length: usize,
        ends: &[u32],
    ) -> Result<(), String> {
        let said = |error: sunfleck::generate::GenerateError| error.to_string();
        if self.ids.len() >= length {
            return Ok(());
        }
        session.reset();
        session.set_choice(choice).await.map_err(said)?;
        let first = session.read_prompt(&self.ids, &mut |_, _| ()).await;
        let mut next = first.map_err(said)?;
        loop {
            self.push(next, true);
            if self.ids.len() >= length || ends.contains(&next) {
                return session
                    .set_choice(TokenChoice::default())
                    .await
                    .map_err(said);
            }
            let step = session.step(1).await.map_err(said)?;
            next = step.tokens[0];
        }
    }
}

/// Numbers that look drawn (SplitMix64, Steele et al. 2014): the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn one_of<'a, T>(&mut self, list: &'a [T]) -> Option<&'a T> {
        list.get((self.share() * list.len() as f64) as usize)
    }
}

/// The texts that were asked for, written by the session's model.
pub async fn texts(
    session: &mut Session,
    tokenizer: &Tokenizer,
    template: &ChatTemplate,
    arguments: &Arguments,
    wanted: Texts,
) -> Result<Vec<Text>, String> {
    let mut texts = Vec::new();
    match wanted {
        Texts::Prompts => {
            for prompt in prompts::chosen(arguments.prompts, arguments.kind.as_deref())? {
                let turn = template.user_turn(tokenizer, &prompt.text);
                let turn = turn.map_err(|error| error.to_string())?;
                let ends = match arguments.past_end {
                    true => Vec::new(),
                    false => tokenizer.end_tokens(),
                };
                let mut text = Text::begin(&turn, true);
                let length = turn.len() + arguments.tokens;
                let choice = TokenChoice::default();
                text.write(session, choice, length, &ends).await?;
                texts.push(text);
            }
        }
        Texts::Training => {
            let list: Value =
                serde_json::from_str(BEGINNINGS).map_err(|error| error.to_string())?;
            let mut numbers = Numbers(1000);
            for seed in 0..arguments.prompts as u64 {
                texts.push(
                    training_text(session, &list, &mut numbers, seed, arguments.tokens).await?,
                );
            }
        }
    }
    Ok(texts)
}

/// A text as the drafters were trained and measured on: six in ten begin with a user's turn that the model makes up
/// (Xu et al. 2024, Magpie), half are greedy, half have a temperature from 0.4 to 0.9, all are cut to 50 tokens a place.
async fn training_text(
    session: &mut Session,
    list: &Value,
    numbers: &mut Numbers,
    seed: u64,
    length: usize,
) -> Result<Text, String> {
    let ids = |value: &Value| -> Vec<u32> {
        let ids = value.as_array().into_iter().flatten();
        ids.filter_map(|id| Some(id.as_u64()? as u32)).collect()
    };
    let sampled = |temperature: f64| {
        let sampling = Sampling {
            temperature: temperature as f32,
            top_k: 50,
            ..Sampling::default()
        };
        TokenChoice::sampled(sampling, seed)
    };
    let share = numbers.share();
    let makes_up = share < 0.6;
    let mut given = if makes_up {
        ids(&list["magpie"])
    } else {
        let name = if share < 0.85 { "chat" } else { "raw" };
        let beginnings = list[name].as_array().map_or(&[][..], Vec::as_slice);
        numbers.one_of(beginnings).map(ids).unwrap_or_default()
    };
    given.truncate(length / 2);
    let greedy = numbers.share() < 0.5;
    let temperature = 0.4 + 0.5 * numbers.share();
    let mut text = Text::begin(&given, greedy);
    if makes_up {
        text.write(session, sampled(0.95), length, &ENDS).await?;
        if let Some(end) = text.ids.last_mut().filter(|id| ENDS.contains(id)) {
            *end = ENDS[0];
        }
        for id in ids(&list["asst"]) {
            if text.ids.len() < length {
                text.push(id, false);
            }
        }
    }
    let choice = match greedy {
        true => TokenChoice::default(),
        false => sampled(temperature),
    };
    text.write(session, choice, length, &ENDS).await?;
    Ok(text)
}
