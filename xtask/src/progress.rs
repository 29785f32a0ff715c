//! How far a long step is: a bar on a terminal, now and then a line elsewhere (a log of CI).

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Progress over a known number of bytes, on stderr.
pub struct Progress {
    bar: Option<ProgressBar>,
    label: &'static str,
    total: u64,
    tenths: u64,
    last_line: Instant,
}

impl Progress {
    /// Starts at 0 of `total` bytes.
    pub fn new(label: &'static str, total: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(label);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Progress {
            bar,
            label,
            total,
            tenths: 0,
            last_line: Instant::now(),
        }
    }

    /// `done` bytes of the total so far; more than the total shows as the total.
    pub fn set(&mut self, done: u64) {
        let done = done.min(self.total);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            return;
        }
        let tenths = done * 10 / self.total.max(1);
        // A step of a second or two needs no line at all.
        if tenths > self.tenths && self.last_line.elapsed() >= Duration::from_secs(2) {
            self.tenths = tenths;
            self.last_line = Instant::now();
            eprintln!(
                "{}: {} of {} MB",
                self.label,
                done / 1_000_000,
                self.total / 1_000_000
            );
        }
    }

    /// A line above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
