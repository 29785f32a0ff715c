//! Where, when and from what a figure came.

use std::{process::Command, time::SystemTime};

use crate::adapter::BenchGpu;

/// Names and values that stand above the table.
pub fn describe(gpu: &BenchGpu) -> Vec<(&'static str, String)> {
    let info = &gpu.info;
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    let mut lines = vec![
        ("adapter", info.name.clone()),
        ("driver", format!("{} {}", info.driver, info.driver_info)),
        ("backend", info.backend.to_string()),
        ("profile", gpu.profile.name().into()),
        ("date", now.to_string()),
        ("version", env!("CARGO_PKG_VERSION").into()),
    ];
    lines.extend(commit().map(|commit| ("commit", commit)));
    lines
}

/// The commit that was built: `SUNFLECK_BENCH_COMMIT`, or what git says of the clone when cargo runs us.
fn commit() -> Option<String> {
    if let Ok(given) = std::env::var("SUNFLECK_BENCH_COMMIT") {
        return Some(given);
    }
    let clone = std::env::var_os("CARGO_MANIFEST_DIR")?;
    let output = Command::new("git")
        .arg("-C")
        .arg(clone)
        .args(["describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
