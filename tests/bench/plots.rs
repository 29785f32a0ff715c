//! What is drawn.

use crate::{plot, tables::report};

#[test]
fn plot_has_both_bars_of_a_case_and_names_one_that_did_not_run() {
    let plot = plot::svg(&report(1e-9, crate::tables::side(0.02)));
    for part in [
        "<svg",
        "llvmpipe",
        "prefill/f32/h8/d64/512x512",
        "class=\"ours\"",
        "class=\"rival\"",
        "71 % of FMA",
        "did not run",
        "prefers-color-scheme: dark",
    ] {
        assert!(plot.contains(part), "{part} in\n{plot}");
    }
}

#[test]
fn names_of_adapters_are_escaped() {
    let mut report = report(1e-9, None);
    report.machine = vec![("adapter", "<A&B>".into())];
    let plot = plot::svg(&report);
    assert!(
        plot.contains("&lt;A&amp;B&gt;") && !plot.contains("<A&B>"),
        "{plot}"
    );
}
