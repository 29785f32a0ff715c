//! Files of peers, and the script that writes them.

use crate::{cases::cases, peers::Peers, tables};

const SCRIPT: &str = include_str!("../../benches/peers/torch_attention.py");

/// Of a file that the script writes, what is read.
fn file() -> Peers {
    Peers::parse(
        r#"{
        "machine": {"adapter": "NVIDIA H200", "torch": "2.11.0", "backend": "CUDA 13.0"},
        "cases": [{"name": "prefill/f32/h8/d64/512x512", "peers": {
            "flash": {"refused": "No available kernel."},
            "efficient": {"seconds": {"median": 0.002}}
        }}]}"#,
    )
    .unwrap()
}

#[test]
fn the_script_measures_cases_of_the_benchmark() {
    let start = SCRIPT.find("CASES = [").unwrap();
    let list = &SCRIPT[start..start + SCRIPT[start..].find(']').unwrap()];
    let names: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(names.len() > 5, "{names:?}");
    let own: Vec<_> = cases(false).iter().map(|case| case.name()).collect();
    for name in names {
        assert!(own.contains(&name.to_owned()), "{name} is not in {own:?}");
    }
}

#[test]
fn times_of_peers_stand_beside_ours() {
    let mut report = tables::report(1e-9, None);
    report.peers = Some(file());
    let table = report.table();
    // Ours takes 4 ms.
    for part in [
        "PyTorch 2.11.0, CUDA 13.0, NVIDIA H200",
        "efficient",
        "2.00 ms",
        "0.50 x",
        "No available kernel.",
    ] {
        assert!(table.contains(part), "{part} in\n{table}");
    }
    let json = report.json();
    let peers = &json["cases"][0]["peers"];
    assert!((peers["efficient"]["speed_up"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(peers["flash"]["refused"], "No available kernel.");
    assert_eq!(json["peers"]["machine"]["torch"], "2.11.0");
}

#[test]
fn without_peers_nothing_is_said_of_them() {
    let report = tables::report(1e-9, None);
    assert!(report.json()["peers"].is_null());
    assert!(!report.table().contains("peer"));
    assert!(file().of("prefill/f32/h8/d64/9x9").is_empty());
}

#[test]
fn other_files_are_refused_with_what_they_lack() {
    assert!(Peers::parse("{}").unwrap_err().contains("machine"));
    assert!(
        Peers::parse("{\"machine\": {}}")
            .unwrap_err()
            .contains("cases")
    );
    assert!(Peers::parse("no").is_err());
}
