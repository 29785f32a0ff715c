//! The plot: for each contender a bar, its speed against plain decoding, and beside it what it kept.

use svg::{
    Document, Node as _,
    node::element::{Line, Rectangle, Style, Text, Title},
};

use crate::report::Report;

// All lengths are in pixels of the view box.
const WIDTH: f64 = 760.0;
/// Where the bars start: names stand before.
const LEFT: f64 = 170.0;
/// Where the axis ends: figures stand behind.
const RIGHT: f64 = 560.0;
const TOP: f64 = 84.0;
const ROW: f64 = 26.0;
const BAR: f64 = 14.0;

/// Colours by class, on a background of its own.
const STYLE: &str = "
text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 12px; fill: #1f2328 }
.background { fill: #ffffff }
.title { font-size: 16px; font-weight: 600 }
.quiet { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.plain { fill: #a3adb8 }
.drafts { fill: #0969da }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .background { fill: #0d1117 }
  .quiet { fill: #9198a1 }
  .grid { stroke: #2f353d }
  .plain { fill: #656c76 }
  .drafts { fill: #4493f8 }
}
";

/// The plot of a report as an SVG document.
pub fn svg(report: &Report) -> String {
    let bottom = TOP + ROW * report.rows.len() as f64;
    let height = bottom + 20.0;
    let speeds = report.rows.iter().map(|row| row.speed_up());
    let most = (speeds.fold(1.0, f64::max) * 2.0).ceil() / 2.0;
    let x = |speed: f64| LEFT + (RIGHT - LEFT) * speed / most;
    let title = format!("{} on {}", report.model, report.adapter.name);
    let mut plot = Document::new()
        .set("viewBox", format!("0 0 {WIDTH} {height}"))
        .set("width", WIDTH)
        .set("height", height)
        .set("role", "img")
        .add(Title::new(title.clone()))
        .add(Style::new(STYLE))
        .add(bar(0.0, 0.0, WIDTH, "background").set("height", height))
        .add(text(16.0, 28.0, "title", "start", &title));
    let subtitle = format!("Speed against plain decoding: {}", report.subject());
    plot.append(text(16.0, 48.0, "quiet", "start", &subtitle));
    for half in 0..=(most * 2.0) as u32 {
        let speed = f64::from(half) / 2.0;
        let line = Line::new()
            .set("class", "grid")
            .set("x1", x(speed))
            .set("x2", x(speed));
        plot.append(line.set("y1", TOP - 8.0).set("y2", bottom));
        plot.append(text(
            x(speed),
            TOP - 12.0,
            "quiet",
            "middle",
            &format!("{speed} x"),
        ));
    }
    for (i, row) in report.rows.iter().enumerate() {
        let top = TOP + ROW * i as f64 + (ROW - BAR) / 2.0;
        let class = if i == 0 { "plain" } else { "drafts" };
        let name = format!("{} {}", row.drafter, row.tree);
        plot.append(text(LEFT - 12.0, top + 11.0, "", "end", name.trim()));
        plot.append(bar(LEFT, top, x(row.speed_up()) - LEFT, class));
        let figures = format!("{:.2} x, {:.2} kept a step", row.speed_up(), row.kept());
        plot.append(text(RIGHT + 12.0, top + 11.0, "", "start", &figures));
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
