//! Answers restricted by grammars: regular expressions, JSON schemas, and the law of what is left.

use std::sync::Arc;

use sunfleck::{
    draft::{Drafter, NgramDrafter, NgramOptions, NoDrafter},
    generate::{
        Finish, GenerateError, GenerateOptions, Grammar, GrammarError, GrammarState, Session,
        TextGrammar, TokenChoice,
    },
    model::{Gguf, Tokenizer},
    reference::{blocks::BlockFormat, decoder as twin},
    verify::Rule,
};

use crate::{
    decoder::{config, open, options},
    gguf_writer::{GgufWriter, Storage, Value, tiny_llama},
    random::Random,
    sampling::{self, Always, PROMPT, WARM, misfit},
    sessions::on_one_adapter,
};

/// The printable characters of ASCII, some pairs of them, and two control tokens, one of which ends answers.
fn vocabulary() -> Vec<String> {
    let mut tokens: Vec<String> = (b'!'..=b'~')
        .map(|byte| char::from(byte).to_string())
        .collect();
    tokens.extend(["12", "34", "ab", "{\"", "\":", "\",", "\"}", "true"].map(str::to_owned));
    tokens.extend(["<|im_end|>", "<|im_start|>"].map(str::to_owned));
    tokens
}

fn model_file() -> GgufWriter {
    let tokens = vocabulary();
    let config = twin::DecoderConfig {
        vocab: tokens.len(),
        ..config()
    };
    let mut random = Random(31);
    let storage = Storage {
        matrices: BlockFormat::F32,
        odd_ones: BlockFormat::F32,
        tied: true,
    };
    let (mut file, _) = tiny_llama(&config, storage, |n| random.normals(n));
    let kinds = tokens
        .iter()
        .map(|token| if token.starts_with("<|") { 3 } else { 1 });
    let kinds = kinds.collect();
    file.set("tokenizer.ggml.model", Value::Text("gpt2".into()));
    file.set("tokenizer.ggml.pre", Value::Text("default".into()));
    file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    let merges = ["1 2", "3 4", "a b", "{ \"", "\" :", "\" ,", "\" }"];
    file.set(
        "tokenizer.ggml.merges",
        Value::Texts(merges.iter().map(|m| (*m).into()).collect()),
    );
    file
}

fn tokenizer(file: &GgufWriter) -> Tokenizer {
    let gguf = Gguf::read(&mut std::io::Cursor::new(file.bytes())).unwrap();
    Tokenizer::from_gguf(&gguf).unwrap()
}

fn ngram() -> Box<dyn Drafter> {
    let least = NgramOptions {
        min_ngram: 1,
        ..Default::default()
    };
    Box::new(NgramDrafter::new(least).unwrap())
}

/// An answer's tokens, its text, and why it ended.
fn answer(
    session: &mut Session,
    tokenizer: &Tokenizer,
    grammar: &TextGrammar,
    choice: TokenChoice,
) -> (Vec<u32>, String, Finish) {
    session.reset();
    let options = GenerateOptions {
        max_tokens: 100,
        end_tokens: tokenizer.end_tokens(),
        choice,
        grammar: Some(Arc::new(grammar.clone())),
        ..Default::default()
    };
    let prompt = tokenizer.encode("1212ab12ab34", false).unwrap();
    let mut stream = session.generate(&prompt, options);
    let ids: Vec<u32> = stream.by_ref().map(|token| token.unwrap().id).collect();
    let finish = stream.finish().unwrap();
    let text = tokenizer.decode(&ids).unwrap();
    (ids, text, finish)
}

/// Whether `text` is letters a, b, then from two to nine digits.
fn fits(text: &str) -> bool {
    let digits = text.trim_start_matches(['a', 'b']);
    text.len() > digits.len()
        && (2..=9).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn every_answer_matches_its_regular_expression() {
    on_one_adapter(|gpu| {
        let file = model_file();
        let tokenizer = tokenizer(&file);
        let mut session = open(&gpu.gpu, &file.bytes(), options(), ngram());
        let grammar = TextGrammar::regex(&tokenizer, "[ab]{1,20}[0-9]{2,9}").unwrap();
        for rule in [Rule::Rejection, Rule::Block, Rule::ChainRejection] {
            let mut texts = std::collections::HashSet::new();
            for seed in 0..12 {
                let choice = TokenChoice {
                    rule,
                    ..TokenChoice::sampled(WARM, seed)
                };
                let (_, text, finish) = answer(&mut session, &tokenizer, &grammar, choice);
                assert!(fits(&text), "{rule:?} {seed}: {text}");
                assert_eq!(finish, Finish::EndToken);
                texts.insert(text);
            }
            assert!(texts.len() > 6, "{texts:?}");
        }
        // Drafts do not change the greedy answer, nor does a restriction to what it is anyway.
        let greedy = TokenChoice::default();
        let drafted = answer(&mut session, &tokenizer, &grammar, greedy);
        session.set_drafter(Box::new(NoDrafter));
        assert_eq!(answer(&mut session, &tokenizer, &grammar, greedy), drafted);
        assert!(
            fits(&drafted.1) || drafted.2 == Finish::MaxTokens,
            "{drafted:?}"
        );
        let all = TextGrammar::regex(&tokenizer, "(?s).*").unwrap();
        let free = answer(&mut session, &tokenizer, &all, greedy);
        session.reset();
        let options = GenerateOptions {
            max_tokens: free.0.len(),
            end_tokens: tokenizer.end_tokens(),
            ..Default::default()
        };
        let prompt = tokenizer.encode("1212ab12ab34", false).unwrap();
        let plain: Vec<u32> = session
            .generate(&prompt, options)
            .map(|t| t.unwrap().id)
            .collect();
        // Control tokens are text of no grammar.
        if !plain.contains(&(vocabulary().len() as u32 - 1)) {
            assert_eq!(free.0, plain);
        }
    });
}

#[test]
fn json_parses_and_satisfies_its_schema() {
    on_one_adapter(|gpu| {
        let file = model_file();
        let tokenizer = tokenizer(&file);
        let mut session = open(&gpu.gpu, &file.bytes(), options(), ngram());
        let schema = r#"{
            "type": "object",
            "properties": {
                "a": { "type": "integer", "minimum": 5, "maximum": 1234 },
                "b": { "enum": ["ab", "abba"] },
                "c": { "type": "array", "items": { "type": "boolean" }, "minItems": 1, "maxItems": 3 }
            },
            "required": ["a", "b", "c"],
            "additionalProperties": false,
            "x-guidance": { "whitespace_flexible": false }
        }"#;
        let grammar = TextGrammar::json_schema(&tokenizer, schema).unwrap();
        for seed in 0..16 {
            let choice = TokenChoice::sampled(WARM, seed);
            let (_, text, finish) = answer(&mut session, &tokenizer, &grammar, choice);
            assert_eq!(finish, Finish::EndToken, "{text}");
            let value: serde_json::Value = serde_json::from_str(&text).expect(&text);
            let object = value.as_object().unwrap();
            assert_eq!(object.len(), 3, "{text}");
            assert!(
                (5..=1234).contains(&object["a"].as_i64().unwrap()),
                "{text}"
            );
            assert!(
                ["ab", "abba"].contains(&object["b"].as_str().unwrap()),
                "{text}"
            );
            let flags = object["c"].as_array().unwrap();
            assert!((1..=3).contains(&flags.len()), "{text}");
            assert!(flags.iter().all(serde_json::Value::is_boolean), "{text}");
        }
    });
}

/// Tokens 0 to 3, none the same as the one before.
#[derive(Debug)]
struct NoEcho;

struct Said(Vec<u32>);

impl Grammar for NoEcho {
    fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
        Ok(Box::new(Said(vec![0])))
    }
}

impl GrammarState for Said {
    fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
        allowed[0] = 0b1111 & !(1 << self.0[self.0.len() - 1]);
        Ok(())
    }

    fn push(&mut self, token: u32) -> Result<(), GrammarError> {
        self.0.push(token);
        Ok(())
    }

    fn pop(&mut self, tokens: usize) -> Result<(), GrammarError> {
        self.0.truncate(self.0.len() - tokens);
        Ok(())
    }
}

#[test]
fn drafts_leave_the_law_of_restricted_text() {
    on_one_adapter(|gpu| {
        let (mut session, mut twin) = sampling::model(gpu);
        let law = sampling::law(&mut twin, |text, p| {
            let before = text.last().copied().unwrap_or(0);
            p[before as usize] = 0.0;
        });
        let free = sampling::law(&mut twin, |_, _| ());
        let mut texts = |drafter: Box<dyn Drafter>, rule: Rule| -> Vec<Vec<u32>> {
            session.set_drafter(drafter);
            let text = |seed| {
                session.reset();
                let options = GenerateOptions {
                    max_tokens: 3,
                    choice: TokenChoice {
                        rule,
                        ..TokenChoice::sampled(WARM, seed)
                    },
                    grammar: Some(Arc::new(NoEcho)),
                    ..Default::default()
                };
                let stream = session.generate(&PROMPT, options);
                stream.map(|token| token.unwrap().id).collect()
            };
            (0..1000).map(text).collect()
        };
        let plain = texts(Box::new(NoDrafter), Rule::Rejection);
        assert!(misfit(&plain, &law) < 1.0, "{}", misfit(&plain, &law));
        for rule in [Rule::Rejection, Rule::Traversal] {
            let drafted = texts(Box::new(Always), rule);
            let echo = |text: &Vec<u32>| text[0] == 0 || text.windows(2).any(|w| w[0] == w[1]);
            assert!(!drafted.iter().any(echo));
            let ratio = misfit(&drafted, &law);
            assert!(ratio < 1.0, "{rule:?}: {ratio}");
            // The test sees a wrong law: what is not restricted.
            assert!(misfit(&drafted, &free) > 1.0);
        }
    });
}

#[test]
fn a_dead_end_ends_the_answer_with_an_error_and_the_session_goes_on() {
    /// Token 1, and nothing after it.
    #[derive(Debug)]
    struct Once;

    impl Grammar for Once {
        fn begin(&self) -> Result<Box<dyn GrammarState>, GrammarError> {
            Ok(Box::new(Pushed(0)))
        }
    }

    struct Pushed(usize);

    impl GrammarState for Pushed {
        fn allow(&mut self, allowed: &mut [u32]) -> Result<(), GrammarError> {
            allowed[0] = if self.0 == 0 { 2 } else { 0 };
            Ok(())
        }

        fn push(&mut self, _: u32) -> Result<(), GrammarError> {
            self.0 += 1;
            Ok(())
        }

        fn pop(&mut self, tokens: usize) -> Result<(), GrammarError> {
            self.0 -= tokens;
            Ok(())
        }
    }

    on_one_adapter(|gpu| {
        let (mut session, _) = sampling::model(gpu);
        let options = |grammar| GenerateOptions {
            max_tokens: 4,
            grammar,
            ..Default::default()
        };
        let mut stream = session.generate(&[1, 2], options(Some(Arc::new(Once))));
        assert_eq!(stream.next().unwrap().unwrap().id, 1);
        let error = stream.next().unwrap().unwrap_err();
        let dead_end = GrammarError::DeadEnd { tokens: 1 };
        assert!(
            matches!(&error, GenerateError::Grammar(error) if *error == dead_end),
            "{error}"
        );
        drop(stream);
        assert_eq!(session.generate(&[3], options(None)).count(), 4);
    });
}

#[test]
fn wrong_grammars_are_refused_with_their_place() {
    let file = model_file();
    let tokenizer = tokenizer(&file);
    let regex = |pattern| TextGrammar::regex(&tokenizer, pattern).map(drop);
    let at = |line, column, part: &str, given: Result<(), GrammarError>| match given.unwrap_err() {
        GrammarError::Regex {
            line: l,
            column: c,
            problem,
        }
        | GrammarError::Json {
            line: l,
            column: c,
            problem,
        } => {
            assert_eq!((l, c), (line, column), "{problem}");
            assert!(problem.contains(part), "{problem}");
        }
        other => panic!("{other}"),
    };
    at(1, 2, "unclosed group", regex("a(b|c"));
    at(2, 1, "class", regex("(?x)ab\n[x"));
    at(1, 4, "backreferences", regex("(a)\\1"));
    let unsupported = |part: &str, given: Result<(), GrammarError>| {
        let error = given.unwrap_err();
        assert!(matches!(error, GrammarError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    unsupported("lookarounds", regex("a\\bb"));
    let schema = |text| TextGrammar::json_schema(&tokenizer, text).map(drop);
    at(2, 11, "expected", schema("{\n  \"type\": }"));
    unsupported("foo", schema(r#"{"type": "foo"}"#));
    unsupported("nsatisfiable", schema("false"));
    unsupported(
        "uniqueItems",
        schema(r#"{"type": "array", "uniqueItems": true}"#),
    );
    let mut endless = model_file();
    let kinds = vec![1; vocabulary().len()];
    endless.set("tokenizer.ggml.token_type", Value::I32s(kinds));
    let endless = self::tokenizer(&endless);
    let refused = TextGrammar::regex(&endless, "a").map(drop);
    assert_eq!(refused, Err(GrammarError::NoEndToken));
}
