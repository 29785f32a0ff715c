//! The examples that need no model run.

#[allow(dead_code)] // its main, which prints what `run` gives
#[path = "../../examples/verify.rs"]
mod verify;

#[test]
fn a_model_and_a_drafter_of_ones_own_are_verified() {
    let shown = pollster::block_on(verify::run(1)).unwrap();
    let again = pollster::block_on(verify::run(1)).unwrap();
    assert_eq!(shown, again, "a seed gives one text");
    let other = pollster::block_on(verify::run(2)).unwrap();
    assert_ne!(shown, other);
    // Drafts are accepted, and every step says what it kept.
    let steps = shown.matches("kept").count();
    let text = shown.lines().last().unwrap();
    assert!(steps < text.len() - 2, "{shown}");
    let starred = shown.lines().filter(|line| line.ends_with(" *")).count();
    let kept: usize = text.len() - 2;
    // A step keeps the starred nodes below the root and one token more: as many as are starred.
    assert_eq!(starred, kept, "{shown}");
}
