//! The plot: time against vocabulary, one line a size of tree, beside a part of a decoded token.

use svg::{
    Document, Node as _,
    node::element::{Line, Polyline, Rectangle, Style, Text, Title},
};

use crate::{
    cases::{NODES, VOCABULARIES},
    report::{Report, Row},
};

// All lengths are in pixels of the view box.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 560.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 350.0;

/// The part of a decoded token that a verification should stay below.
const GOAL: f64 = 0.03;

const STYLE: &str = "
text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; font-size: 12px; fill: #1f2328 }
.background { fill: #ffffff }
.title { font-size: 16px; font-weight: 600 }
.quiet { fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.goal { stroke: #bc4c00; stroke-width: 1.5; stroke-dasharray: 6 4 }
.series { fill: none; stroke: #0969da; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .background { fill: #0d1117 }
  .quiet { fill: #9198a1 }
  .grid { stroke: #2f353d }
  .goal { stroke: #f0883e }
  .series { stroke: #4493f8 }
}
";

/// The plot of a report as an SVG document.
pub fn svg(report: &Report) -> String {
    let plain: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| row.case.name.starts_with("chain/"))
        .collect();
    let goal = report
        .decode
        .as_ref()
        .map(|decode| decode.seconds.median * GOAL);
    let times = plain.iter().map(|row| row.seconds.median).chain(goal);
    let (mut low, mut high) = (-4, -3); // powers of ten of seconds
    for time in times {
        let power = time.max(1e-9).log10();
        (low, high) = (low.min(power.floor() as i32), high.max(power.ceil() as i32));
    }
    let y = |seconds: f64| {
        let part = (seconds.max(1e-9).log10() - f64::from(low)) / f64::from(high - low);
        BOTTOM - (BOTTOM - TOP) * part
    };
    let ends = [VOCABULARIES[0], VOCABULARIES[VOCABULARIES.len() - 1]].map(|v| f64::from(v).ln());
    let x = |vocabulary: u32| {
        LEFT + (RIGHT - LEFT) * (f64::from(vocabulary).ln() - ends[0]) / (ends[1] - ends[0])
    };

    let machine = |wanted: &str| {
        let found = report.machine.iter().find(|(name, _)| *name == wanted);
        found.map_or("", |(_, value)| value.as_str())
    };
    let title = format!("Verify + commit on {}", machine("adapter"));
    let mut plot = Document::new()
        .set("viewBox", format!("0 0 {WIDTH} {HEIGHT}"))
        .set("width", WIDTH)
        .set("height", HEIGHT)
        .set("role", "img")
        .add(Title::new(title.clone()))
        .add(Style::new(STYLE))
        .add(
            Rectangle::new()
                .set("class", "background")
                .set("width", WIDTH)
                .set("height", HEIGHT),
        )
        .add(text(16.0, 28.0, "title", "start", &title))
        .add(text(
            16.0,
            48.0,
            "quiet",
            "start",
            "Rejection over a chain at temperature 0.7, one request: time against vocabulary",
        ));
    for power in low..=high {
        let at = y(10f64.powi(power));
        plot.append(line(LEFT, at, RIGHT, at, "grid"));
        let label = format!("{} ms", 10f64.powi(power + 3));
        plot.append(text(LEFT - 8.0, at + 4.0, "quiet", "end", &label));
    }
    for vocabulary in VOCABULARIES {
        let at = x(vocabulary);
        plot.append(line(at, TOP, at, BOTTOM, "grid"));
        let label = vocabulary.to_string();
        plot.append(text(at, BOTTOM + 18.0, "quiet", "middle", &label));
    }
    if let Some(goal) = goal {
        plot.append(line(LEFT, y(goal), RIGHT, y(goal), "goal"));
        let label = "3 % of a decoded token";
        plot.append(text(LEFT + 6.0, y(goal) - 5.0, "quiet", "start", label));
    }
    for nodes in NODES {
        let series = plain.iter().filter(|row| row.case.nodes == nodes);
        let points: Vec<(f64, f64)> = series
            .map(|row| (x(row.case.vocabulary), y(row.seconds.median)))
            .collect();
        let Some(&(end_x, end_y)) = points.last() else {
            continue;
        };
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        plot.append(
            Polyline::new()
                .set("class", "series")
                .set("points", path.join(" ")),
        );
        let label = match nodes {
            1 => "1 node".to_owned(),
            _ => format!("{nodes} nodes"),
        };
        plot.append(text(end_x + 8.0, end_y + 4.0, "", "start", &label));
    }
    let source: Vec<_> = ["driver", "backend", "date", "commit"]
        .into_iter()
        .map(machine)
        .filter(|value| !value.is_empty())
        .collect();
    let source = source.join(" · ");
    plot.append(text(16.0, HEIGHT - 14.0, "quiet", "start", &source));
    format!("{plot}\n")
}

fn line(x1: f64, y1: f64, x2: f64, y2: f64, class: &str) -> Line {
    Line::new()
        .set("class", class)
        .set("x1", x1)
        .set("y1", y1)
        .set("x2", x2)
        .set("y2", y2)
}

fn text(x: f64, y: f64, class: &str, anchor: &str, content: &str) -> Text {
    Text::new(content)
        .set("class", class)
        .set("x", x)
        .set("y", y)
        .set("text-anchor", anchor)
}
