//! The plot: for each case two bars, this crate's and the rival's fraction of the peak that binds.

use svg::{
    Document, Node as _,
    node::element::{Line, Rectangle, Style, Text, Title},
};

use crate::report::{Report, in_thousands, percent, seconds};

// All lengths are in pixels of the view box.
const WIDTH: f64 = 960.0;
/// Where the bars start: names of cases stand before.
const LEFT: f64 = 290.0;
/// Where the axis ends: figures stand behind.
const RIGHT: f64 = 780.0;
const TOP: f64 = 88.0;
const ROW: f64 = 40.0;
const BAR: f64 = 12.0;

/// Colours by class. The plot has a background of its own, so that it can be read on any page.
const STYLE: &str = "
text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 12px; fill: #1f2328 }
.background { fill: #ffffff }
.title { font-size: 16px; font-weight: 600 }
.quiet { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.ours { fill: #0969da }
.rival { fill: #a3adb8 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .background { fill: #0d1117 }
  .quiet { fill: #9198a1 }
  .grid { stroke: #2f353d }
  .ours { fill: #4493f8 }
  .rival { fill: #656c76 }
}
";

/// The plot of a report as an SVG document.
pub fn svg(report: &Report) -> String {
    let height = TOP + ROW * report.rows.len() as f64 + 34.0;
    let outcomes = report
        .rows
        .iter()
        .filter_map(|row| row.outcome.as_ref().ok());
    let fractions = outcomes.map(|outcome| {
        outcome
            .of_limit
            .max(outcome.rival_of_limit().unwrap_or(0.0))
    });
    // The axis ends at the peak; a figure above it, as caches allow, makes it longer by quarters.
    let most = (fractions.fold(1.0, f64::max) * 4.0).ceil() / 4.0;
    let x = |fraction: f64| LEFT + (RIGHT - LEFT) * fraction / most;

    let machine = |wanted: &str| {
        let found = report.machine.iter().find(|(name, _)| *name == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    let title = format!("Attention on {}", machine("adapter"));
    let mut plot = Document::new()
        .set("viewBox", format!("0 0 {WIDTH} {height}"))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(title.clone()))
        .add(Style::new(STYLE))
        .add(
            Rectangle::new()
                .set("class", "background")
                .set("width", WIDTH)
                .set("height", height),
        )
        .add(text(16.0, 28.0, "title", "start", &title));
    let matrix = report.peaks.matrix.as_ref().map_or(String::new(), |peak| {
        let rate = in_thousands(peak.rate, "FLOP/s");
        format!("{rate} of products of matrices, ")
    });
    let subtitle = format!(
        "Fraction of the peak that binds: {matrix}{} of f32 multiply-adds, or {} of streaming reads",
        in_thousands(report.peaks.fma.rate, "FLOP/s"),
        in_thousands(report.peaks.read.rate, "B/s"),
    );
    plot.append(text(16.0, 48.0, "quiet", "start", &subtitle));
    let source: Vec<_> = ["driver", "backend", "profile", "date", "commit"]
        .into_iter()
        .map(machine)
        .filter(|value| !value.is_empty())
        .collect();
    plot.append(text(
        16.0,
        height - 12.0,
        "quiet",
        "start",
        &source.join(" · "),
    ));
    for (at, class, name) in [
        (RIGHT + 12.0, "ours", "sunfleck"),
        (RIGHT + 104.0, "rival", "naive"),
    ] {
        plot.append(bar(at, 38.0, BAR, class));
        plot.append(text(at + 18.0, 48.0, "", "start", name));
    }

    let bottom = TOP + ROW * report.rows.len() as f64;
    for quarter in 0..=(most * 4.0) as u32 {
        let fraction = f64::from(quarter) / 4.0;
        plot.append(
            Line::new()
                .set("class", "grid")
                .set("x1", x(fraction))
                .set("x2", x(fraction))
                .set("y1", TOP - 8.0)
                .set("y2", bottom),
        );
        let label = format!("{} %", quarter * 25);
        plot.append(text(x(fraction), TOP - 12.0, "quiet", "middle", &label));
    }

    for (i, row) in report.rows.iter().enumerate() {
        let top = TOP + ROW * i as f64 + (ROW - 2.0 * BAR) / 2.0;
        let label = top + BAR + 4.0;
        plot.append(text(LEFT - 12.0, label, "", "end", &row.case.name()));
        let Ok(outcome) = &row.outcome else {
            plot.append(text(LEFT + 8.0, label, "quiet", "start", "did not run"));
            continue;
        };
        plot.append(bar(LEFT, top, x(outcome.of_limit) - LEFT, "ours"));
        if let Some(fraction) = outcome.rival_of_limit() {
            plot.append(bar(LEFT, top + BAR, x(fraction) - LEFT, "rival"));
        }
        let figures = format!(
            "{} of {}, {}",
            percent(outcome.of_limit),
            outcome.limit.name,
            seconds(outcome.ours.seconds.median)
        );
        plot.append(text(RIGHT + 12.0, label, "", "start", &figures));
    }
    format!("{plot}\n")
}

fn bar(x: f64, y: f64, width: f64, class: &str) -> Rectangle {
    Rectangle::new()
        .set("class", class)
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", BAR)
}

fn text(x: f64, y: f64, class: &str, anchor: &str, content: &str) -> Text {
    Text::new(content)
        .set("class", class)
        .set("x", x)
        .set("y", y)
        .set("text-anchor", anchor)
}
