//! Files of prompts, and a standard output that takes nothing.

use crate::chat::{generate, model, text};

#[test]
fn a_prompt_that_is_refused_costs_the_others_nothing() {
    let model = model();
    let long = "long".repeat(20);
    let lines = format!("\nhey\n{long}\n\nyou\n");
    std::fs::write(model.path().join("lines.txt"), lines).unwrap();
    let arguments = [
        "--prompts",
        "lines.txt",
        "--at-once",
        "2",
        "--context",
        "40",
    ];
    let output = generate(model.path(), &arguments).output().unwrap();
    let told = text(&output.stderr);
    let printed = text(&output.stdout);
    let line = |index: u64| {
        let lines = printed
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let mut found = lines.filter(|line: &serde_json::Value| line["index"] == index);
        found
            .next()
            .unwrap_or_else(|| panic!("no line {index}: {printed}\n{told}"))
    };
    for (index, prompt) in [(1, "hey"), (4, "you")] {
        assert_eq!(line(index)["prompt"], prompt);
        assert!(line(index)["text"].is_string(), "{printed}");
    }
    assert_eq!(line(2)["prompt"], long);
    let error = line(2)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("context of 40"), "{error}");
    assert_eq!(printed.lines().count(), 3);
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("1 of 3 prompts"), "{told}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_standard_output_is_an_error_and_a_closed_one_the_end() {
    let model = model();
    std::fs::write(model.path().join("lines.txt"), "hey\n").unwrap();
    for arguments in [
        &["hey", "--json"][..],
        &["hey"],
        &["--prompts", "lines.txt"],
    ] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output = generate(model.path(), arguments)
            .stdout(full)
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains("can't be written"), "{arguments:?}: {told}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = generate(model.path(), arguments)
            .stdout(writer)
            .output()
            .unwrap();
        let told = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
    }
}
