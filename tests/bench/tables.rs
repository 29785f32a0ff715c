//! What is printed and written.

use crate::{
    clock::Sample,
    report::*,
    roofline::{Peak, Peaks, Rates},
};

fn peak(rate: f64) -> Peak {
    Peak {
        rate,
        variant: "some variant".into(),
        variants: vec![("some variant".into(), rate)],
    }
}

pub fn side(seconds: f64) -> Option<Side> {
    let sample = Sample {
        calls: 10,
        wall: seconds * 10.0,
        gpu: Some(seconds * 10.0),
    };
    Side::of(vec![sample; 3])
}

pub fn report(nmse: f64, naive: Option<Side>) -> Report {
    let [small, .., large] = crate::cases::cases(true) else {
        unreachable!("there are at least two cases");
    };
    let rates = Rates {
        fma: 120e9,
        read: 14e9,
        matrix: None,
    };
    let outcome = Outcome {
        kernels: vec!["attention/decode/f32-f32-f32/d64/none/r8/subgroup8".into()],
        copies: 3,
        nmse,
        rates,
        limit: rates.limit(small.flops(), small.bytes(), false),
        of_limit: 0.71,
        speed_up: naive.as_ref().map(|_| 5.0),
        ours: side(0.004).unwrap(),
        rival: naive,
    };
    Report {
        machine: vec![("adapter", "llvmpipe".into())],
        peaks: Peaks {
            fma: peak(100e9),
            fma_f16: None,
            matrix: None,
            read: peak(14e9),
        },
        rows: vec![
            Row {
                case: *small,
                outcome: Ok(outcome),
            },
            Row {
                case: *large,
                outcome: Err("too large".into()),
            },
        ],
        peers: None,
    }
}

#[test]
fn table_has_rate_fraction_and_speed_up() {
    let table = report(1e-9, side(0.02)).table();
    // 4 * 8 * 512 * 512 * 64 operations in 4 ms.
    for part in [
        "llvmpipe",
        "100 GFLOP/s (some variant)",
        "decode r8 subgroup8",
        "134 GFLOP/s",
        "71 %",
        "4.00 ms",
        "20.0 ms",
        "5.00 x",
        ": too large",
        "! the adapter ran at 100 % to 120 %",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    assert!(!table.contains("WRONG"), "{table}");
}

#[test]
fn peak_of_matrix_products_is_told_where_there_is_one() {
    let mut report = report(1e-9, None);
    assert!(!report.table().contains("matrix peak"));
    assert!(report.json()["peaks"]["matrix"].is_null());
    report.peaks.matrix = Some(peak(604e12));
    let table = report.table();
    assert!(table.contains("matrix peak 604 TFLOP/s"), "{table}");
    assert_eq!(report.json()["peaks"]["matrix"]["rate"], 604e12);
    let plot = crate::plot::svg(&report);
    assert!(plot.contains("604 TFLOP/s of products of matrices"));
}

#[test]
fn outputs_that_differ_are_called_wrong() {
    assert!(report(1e-3, None).table().contains("WRONG"));
    assert!(report(f64::NAN, None).table().contains("WRONG"));
}

#[test]
fn json_holds_cases_samples_and_refusals() {
    let json = report(1e-9, side(0.02)).json();
    assert_eq!(json["machine"]["adapter"], "llvmpipe");
    assert_eq!(json["cases"][0]["speed_up"], 5.0);
    assert_eq!(
        json["cases"][0]["sunfleck"]["samples"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(json["cases"][0]["limit"]["peak"], "FMA");
    assert_eq!(json["cases"][1]["refused"], "too large");
}

#[test]
fn numbers_have_three_digits() {
    assert_eq!(in_thousands(84.12e9, "FLOP/s"), "84.1 GFLOP/s");
    assert_eq!(in_thousands(3.49e12, "B/s"), "3.49 TB/s");
    assert_eq!(in_thousands(999.96e9, "B/s"), "1000 GB/s");
    assert_eq!(seconds(0.0000153), "15.3 us");
    assert_eq!(seconds(1.5), "1.50 s");
    assert_eq!(percent(0.7234), "72 %");
    assert_eq!(percent(0.051), "5.1 %");
}
