//! What is asked of the benchmark of drafters.

use crate::arguments::Arguments;

fn parse(line: &str) -> Result<Arguments, String> {
    Arguments::parse(line.split_whitespace().map(str::to_owned))
}

#[test]
fn a_quick_run_is_short_unless_more_is_asked_for() {
    let usual = parse("--bench").unwrap();
    let quick = parse("--bench --quick").unwrap();
    assert!(quick.measure && quick.prompts < usual.prompts && quick.tokens < usual.tokens);
    let some = parse("--quick --prompts 10 ngram").unwrap();
    assert_eq!((some.prompts, some.tokens), (10, quick.tokens));
    assert!(some.wants("ngram chain:4") && !some.wants("mtp chain:4"));
}

#[test]
fn unknown_options_are_answered_with_the_known() {
    let error = parse("--bench --slow").unwrap_err();
    assert!(
        error.contains("--slow") && error.contains("--quick"),
        "{error}"
    );
}
