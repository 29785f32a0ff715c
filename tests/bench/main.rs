//! The parts of the benchmarks that need no adapter. Its own target has no test harness.

#![allow(dead_code)] // the rest of each file is for the benchmark

#[path = "../../benches/generate/arguments.rs"]
mod arguments;
#[path = "../../benches/attention/cases.rs"]
mod cases;
#[path = "../../benches/attention/clock.rs"]
mod clock;
#[path = "../../benches/generate/counts.rs"]
mod counts;
#[path = "../../benches/attention/kernel_names.rs"]
mod kernel_names;
#[path = "../../benches/attention/matrix_products.rs"]
mod matrix_products;
#[path = "../../benches/attention/peers.rs"]
mod peers;
#[path = "../../benches/attention/plot.rs"]
mod plot;
#[path = "../../benches/attention/report.rs"]
mod report;
#[path = "../../benches/attention/roofline.rs"]
mod roofline;
#[path = "../../benches/attention/statistics.rs"]
mod statistics;
#[path = "../../benches/attention/turns.rs"]
mod turns;

mod clocks;
mod flops;
mod kernels;
mod limits;
mod matrices;
mod peer_files;
mod places;
mod plots;
mod requests;
mod spreads;
mod tables;
mod turn_ratios;
