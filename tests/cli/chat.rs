//! Chats, scripted.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use sunfleck::reference::{blocks::BlockFormat, decoder::DecoderConfig};

use crate::{
    gguf_writer::{Storage, Value, tiny_llama},
    random::Random,
};

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role[:1] }}>{{ m.content }}<end>\
                        {% endfor %}<a>";

/// A random model with a letter for most tokens, a chat template, and its folder.
pub fn model() -> tempfile::TempDir {
    let config = DecoderConfig {
        layers: 2,
        width: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ff: 96,
        vocab: 100,
        rope_base: 10_000.0,
        rope_dim: 16,
        rope_divisors: None,
        eps: 1e-5,
        family: Default::default(),
    };
    let storage = Storage {
        matrices: BlockFormat::F32,
        odd_ones: BlockFormat::F32,
        tied: true,
    };
    let mut random = Random(11);
    let (mut file, _) = tiny_llama(&config, storage, |n| random.normals(n));
    // The printable letters, then control tokens.
    let mut tokens: Vec<String> = ('!'..='~').map(String::from).collect();
    tokens.extend(["<end>", "<u>", "<a>", "<s>", "\u{120}", "he"].map(str::to_owned));
    let mut types = vec![1; tokens.len()];
    types[94..98].fill(3);
    file.set("tokenizer.ggml.model", Value::Text("gpt2".into()));
    file.set("tokenizer.ggml.pre", Value::Text("smollm".into()));
    file.set("tokenizer.ggml.tokens", Value::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Value::I32s(types));
    file.set("tokenizer.ggml.merges", Value::Texts(vec!["h e".into()]));
    file.set("tokenizer.ggml.eos_token_id", Value::U32(94));
    file.set("tokenizer.chat_template", Value::Text(TEMPLATE.into()));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.gguf"), file.bytes()).unwrap();
    folder
}

/// The program, about to generate with the model in `folder`.
pub fn generate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sunfleck"));
    command
        .current_dir(folder)
        .env_remove("NO_COLOR")
        .args(["generate", "--model", "model.gguf", "--max-tokens", "12"])
        .args(arguments);
    command
}

fn sunfleck(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = generate(folder, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may have ended, and closed its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The answers of a chat, one a line, and what was told beside them.
fn chat(folder: &Path, arguments: &[&str], input: &str) -> (Vec<String>, String) {
    let output = sunfleck(folder, &[&["--interactive"], arguments].concat(), input);
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    let answers = text(&output.stdout).lines().map(str::to_owned).collect();
    (answers, told)
}

#[test]
fn a_chat_remembers_until_it_is_reset() {
    let model = model();
    let (answers, told) = chat(
        model.path(),
        &[],
        "hey\nhey\n\n/reset\nhey\n/nonsense\n/help\n",
    );
    let [first, second, third] = &answers[..] else {
        panic!("{answers:?}\n{told}");
    };
    assert_eq!(first, third, "after /reset as at the beginning");
    assert_ne!(first, second, "the history counts");
    assert!(told.contains("no command is called /nonsense"), "{told}");
    assert!(told.contains("/save FILE"), "{told}");
    // <u> he y <end> <a>; a later turn has <end> before them unless the answer ended with it. The history is not
    // read again.
    let read = |tokens| told.matches(&format!("[{tokens} tokens read")).count();
    let later = (read(5), read(6)) == (2, 1) || read(5) == 3;
    assert!(later, "{told}");
    // A prompt on the command line is the first turn.
    let (given, _) = chat(model.path(), &["hey"], "hey\n");
    assert_eq!(given, answers[..2]);
}

#[test]
fn a_chat_is_saved_and_goes_on_elsewhere() {
    let model = model();
    let (answers, told) = chat(model.path(), &[], "hey\n/save a.session\nyou\n");
    assert!(told.contains("saved"), "{told}");
    // A file that is no session does not end the chat, nor does it change it.
    let input = "x\n/load model.gguf\n/load none\n/load a.session\nyou\n";
    let (elsewhere, told) = chat(model.path(), &["--page", "16"], input);
    assert!(told.contains("no saved session"), "{told}");
    assert!(told.contains("can't be read"), "{told}");
    assert_eq!(elsewhere.last(), answers.last(), "{told}");
    // By options, and without a chat.
    let once = sunfleck(model.path(), &["hey", "--save-session", "b.session"], "");
    assert_eq!(text(&once.stdout).trim_end(), answers[0].trim_end());
    let folder = model.path();
    let bytes = |name| std::fs::read(folder.join(name)).unwrap();
    assert_eq!(bytes("a.session"), bytes("b.session"));
    let next = sunfleck(folder, &["you", "--load-session", "b.session"], "");
    assert_eq!(text(&next.stdout).trim_end(), answers[1].trim_end());
}

#[test]
fn a_turn_that_does_not_fit_does_not_end_the_chat() {
    let model = model();
    let long = "long".repeat(20);
    let input = format!("{long}\nhey\n");
    let (answers, told) = chat(model.path(), &["--context", "40"], &input);
    assert!(told.contains("/reset"), "{told}");
    assert_eq!(answers.len(), 1, "{told}");
    // With a shifting context old turns make room.
    let shifting = ["--context", "40", "--context-shift"];
    let (answers, told) = chat(model.path(), &shifting, &"hey\n".repeat(5));
    assert_eq!(answers.len(), 5, "{told}");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let model = model();
    let raw = ["abcabcabcabc", "--raw"];
    let run = |color: &[&str]| {
        let output = sunfleck(model.path(), &[&raw[..], color].concat(), "");
        (text(&output.stdout), text(&output.stderr))
    };
    let (plain, table) = run(&[]);
    assert!(!plain.contains('\x1b') && !table.contains("colours"));
    let (colored, table) = run(&["--color", "always"]);
    assert!(table.contains("drafted and kept"), "{table}");
    assert!(colored.contains("\x1b[36m"), "{colored:?}\n{table}");
    let stripped = colored.replace("\x1b[32m", "").replace("\x1b[36m", "");
    assert_eq!(stripped.replace("\x1b[0m", ""), plain);
}
