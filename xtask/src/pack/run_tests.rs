//! `run.sh` itself, with shell scripts in place of the programs: what it says of damage, failures and what is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::{Content, Manifest, RUN, parts::part_of, split};

/// Lists two adapters, and answers `generate` with its arguments.
const PROGRAM: &str = r#"#!/bin/sh
case $1 in
--version) echo sunfleck 0 ;;
adapters) echo '[{"name":"Big GPU, rev. 2","backend":"vulkan","device_type":"DiscreteGpu","driver":"d 1"},{"name":"llvmpipe (x)","backend":"vulkan","device_type":"Cpu","driver":"m"}]' ;;
generate) echo "{\"arguments\": \"$*\", \"model\": \"$SUNFLECK_MODEL\"}" ;;
esac
"#;

const PASSES: &str = "#!/bin/sh
echo \"adapters: $SUNFLECK_TEST_ADAPTERS, arguments: $*\"
echo 'test result: ok. 3 passed; 0 failed; 0 ignored'
";

const NOTHING_RUNS: &str =
    "#!/bin/sh\necho 'test result: ok. 0 passed; 0 failed; 9 filtered out'\n";

const FAILS: &str =
    "#!/bin/sh\necho 'test result: FAILED. 2 passed; 1 failed; 0 ignored'\nexit 101\n";

const BENCHMARK: &str = "#!/bin/sh
echo \"on $SUNFLECK_BENCH_ADAPTER with $*\"
mkdir -p \"$SUNFLECK_BENCH_OUT\" && echo '{}' >\"$SUNFLECK_BENCH_OUT/attention-big-gpu.json\"
";

/// An unpacked pack, and beside it the parts of its model.
struct Pack {
    outer: TempDir,
}

struct Outcome {
    code: Option<i32>,
    said: String,
}

impl Pack {
    fn of(programs: &[(&str, &str)], model: Option<&[u8]>) -> Pack {
        Pack::made([programs, &[("sunfleck", PROGRAM)]].concat(), model)
    }

    /// With another `sunfleck` among the programs.
    fn with_own_program(programs: &[(&str, &str)]) -> Pack {
        Pack::made(programs.to_vec(), None)
    }

    fn made(programs: Vec<(&str, &str)>, model: Option<&[u8]>) -> Pack {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("my pack");
        fs::create_dir_all(folder.join("bin")).unwrap();
        let mut content = Content::default();
        for (name, text) in programs {
            let name = format!("bin/{name}");
            let path = folder.join(&name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            content.files.push(part_of(&path, &name).unwrap());
        }
        if let Some(model) = model {
            let file = outer.path().join("tiny.gguf");
            fs::write(&file, model).unwrap();
            content.model = Some(split(&file, outer.path(), "p.model", Some(1000)).unwrap());
            fs::remove_file(file).unwrap();
            fs::write(folder.join("MODEL"), content.model_checksums()).unwrap();
        }
        let manifest = Manifest {
            version: "1.2.3".into(),
            commit: Some("abc".into()),
            needs_model: vec!["test-model".into(), "bench-generate".into()],
            processor: std::env::consts::ARCH.into(),
            ..Default::default()
        };
        fs::write(folder.join("pack.env"), manifest.shell()).unwrap();
        fs::write(folder.join("SHA256SUMS"), content.checksums()).unwrap();
        fs::write(folder.join("run.sh"), RUN).unwrap();
        Pack { outer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join("my pack").join(name)
    }

    /// With an empty environment, but for these variables.
    fn run_with(&self, environment: &[(&str, &Path)], arguments: &[&str]) -> Outcome {
        let output = Command::new("/bin/sh")
            .arg(self.path("run.sh"))
            .args(arguments)
            .current_dir("/")
            .env_clear()
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        Outcome {
            code: output.status.code(),
            said: String::from_utf8_lossy(&said).into_owned(),
        }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(&[], arguments)
    }

    fn summary(&self, command: &str) -> Value {
        let text = fs::read_to_string(self.path(&format!("results/summary-{command}.json")));
        serde_json::from_str(&text.unwrap()).unwrap()
    }

    fn result(&self, name: &str) -> String {
        fs::read_to_string(self.path("results").join(name)).unwrap()
    }
}

#[test]
fn tests_run_on_the_best_adapter_and_are_recorded() {
    let pack = Pack::of(&[("test-gpu", PASSES)], None);
    let outcome = pack.run(&["test", "--", "matrix", "--nocapture"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    // The name up to its comma, which separates names.
    let log = pack.result("test-gpu.log");
    assert!(
        log.contains("adapters: Big GPU, arguments: matrix --nocapture"),
        "{log}"
    );
    let summary = pack.summary("test");
    assert_eq!(summary["machine"]["adapter"], "Big GPU, rev. 2");
    assert_eq!(summary["machine"]["driver"], "d 1");
    assert_eq!(summary["pack"]["commit"], "abc");
    assert_eq!(summary["steps"][0]["name"], "test-gpu");
    assert_eq!(summary["steps"][0]["exit"], 0);
    assert_eq!(summary["exit"], 0);
    assert!(pack.path("results.tar.gz").is_file());
}

#[test]
fn failure_is_neither_hidden_nor_the_end() {
    let pack = Pack::of(&[("test-a", FAILS), ("test-b", PASSES)], None);
    let outcome = pack.run(&["test"]);
    assert_eq!(outcome.code, Some(1));
    let summary = pack.summary("test");
    assert_eq!(summary["steps"][0]["exit"], 101);
    let result = summary["steps"][0]["result"].as_str().unwrap();
    assert!(result.contains("1 failed"), "{result}");
    assert_eq!(summary["steps"][1]["exit"], 0);
    assert_eq!(summary["exit"], 1);
}

#[test]
fn filter_that_matches_no_test_is_no_success() {
    let pack = Pack::of(&[("test-gpu", NOTHING_RUNS)], None);
    let outcome = pack.run(&["test", "matrx"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.said.contains("no test ran"), "{}", outcome.said);
}

#[test]
fn adapter_is_chosen_by_a_part_of_its_name() {
    let pack = Pack::of(&[("test-gpu", PASSES)], None);
    let chosen = [("SUNFLECK_ADAPTER", Path::new("llvm"))];
    assert_eq!(pack.run_with(&chosen, &["test"]).code, Some(0));
    assert_eq!(pack.summary("test")["machine"]["adapter"], "llvmpipe (x)");
    let unknown = [("SUNFLECK_ADAPTER", Path::new("other"))];
    let outcome = pack.run_with(&unknown, &["test"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.said.contains("no adapter has \"other\""),
        "{}",
        outcome.said
    );
}

#[test]
fn damaged_and_missing_programs_are_found_before_anything_runs() {
    let pack = Pack::of(&[("test-gpu", PASSES)], None);
    fs::write(pack.path("bin/test-gpu"), "#!/bin/sh\nexit 0\n").unwrap();
    let outcome = pack.run(&["test"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.said.contains("bin/test-gpu is damaged"),
        "{}",
        outcome.said
    );
    fs::remove_file(pack.path("bin/test-gpu")).unwrap();
    assert!(
        pack.run(&["check"])
            .said
            .contains("bin/test-gpu is missing")
    );
    assert!(!pack.path("results/test-gpu.log").exists());
}

#[test]
fn other_processor_is_named() {
    let pack = Pack::of(&[("test-gpu", PASSES)], None);
    let text = fs::read_to_string(pack.path("pack.env")).unwrap();
    let other = text.replace(std::env::consts::ARCH, "sparc");
    fs::write(pack.path("pack.env"), other).unwrap();
    let outcome = pack.run(&["check"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.said.contains("are for sparc"), "{}", outcome.said);
}

#[test]
fn model_is_put_together_from_its_parts() {
    let model: Vec<u8> = (0..2500_u32).map(|at| (at % 251) as u8).collect();
    let pack = Pack::of(&[("test-model", PASSES)], Some(&model));
    let outcome = pack.run(&["test"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    assert_eq!(pack.summary("test")["steps"][0]["name"], "test-model");
    assert_eq!(pack.run(&["generate"]).code, Some(0));
    assert_eq!(fs::read(pack.path("model/tiny.gguf")).unwrap(), model);
    for drafter in ["none", "ngram"] {
        let json = pack.result(&format!("generate-{drafter}.json"));
        let json: Value = serde_json::from_str(&json).unwrap();
        let arguments = json["arguments"].as_str().unwrap();
        assert!(
            arguments.contains(&format!("--drafter {drafter}")),
            "{arguments}"
        );
        assert!(json["model"].as_str().unwrap().ends_with("model/tiny.gguf"));
    }
    // It is there now: the parts may go.
    fs::remove_file(pack.outer.path().join("p.model.part-00")).unwrap();
    assert_eq!(pack.run(&["generate", "hello"]).code, Some(0));
    assert!(pack.result("generate.log").contains("hello"));
}

#[test]
fn missing_and_damaged_parts_of_the_model_are_named() {
    let pack = Pack::of(&[], Some(&[1; 2500]));
    let part = pack.outer.path().join("p.model.part-01");
    fs::write(&part, [2; 1000]).unwrap();
    let said = pack.run(&["generate"]).said;
    assert!(said.contains("p.model.part-01 is damaged"), "{said}");
    fs::remove_file(&part).unwrap();
    let outcome = pack.run(&["generate"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome
            .said
            .contains("p.model.part-01, a part of the model"),
        "{}",
        outcome.said
    );
    // Elsewhere, it is found there.
    let folder = pack.outer.path().join("parts");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("p.model.part-01"), [1; 1000]).unwrap();
    let parts = [("SUNFLECK_PARTS", folder.strip_prefix("/").unwrap())];
    let outcome = pack.run_with(&parts, &["generate"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
}

#[test]
fn benchmarks_get_the_adapter_and_leave_their_files() {
    let pack = Pack::of(&[("bench-attention", BENCHMARK)], None);
    let outcome = pack.run(&["bench", "attention", "--", "--quick", "decode"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let log = pack.result("bench-attention.log");
    assert!(
        log.contains("on Big GPU, rev. 2 with --bench --quick decode"),
        "{log}"
    );
    assert_eq!(pack.result("attention-big-gpu.json"), "{}\n");
    let outcome = pack.run(&["bench", "atention"]);
    assert_eq!(outcome.code, Some(1));
    assert!(
        outcome.said.contains("bin/bench-attention"),
        "{}",
        outcome.said
    );
}

#[test]
fn all_skips_what_needs_a_model_and_says_so() {
    let pack = Pack::of(
        &[
            ("test-gpu", PASSES),
            ("test-model", FAILS),
            ("bench-generate", FAILS),
        ],
        None,
    );
    let outcome = pack.run(&["all"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.said);
    let summary = pack.summary("all");
    let steps = summary["steps"].as_array().unwrap();
    let skipped = steps.iter().filter(|step| step["exit"].is_null());
    let skipped: Vec<_> = skipped.map(|step| step["name"].as_str().unwrap()).collect();
    assert_eq!(skipped, ["test-model", "bench-generate", "generate"]);
    let outcome = pack.run(&["generate"]);
    assert_eq!(outcome.code, Some(1), "asked for by name, it is an error");
}

#[test]
fn unknown_command_gets_the_usage() {
    let pack = Pack::of(&[], None);
    let outcome = pack.run(&["tset"]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.said.contains("Usage:"), "{}", outcome.said);
    assert_eq!(pack.run(&["--help"]).code, Some(0));
}

/// Lists a software adapter, and a GPU where the packed loader is used.
const NEEDS_LOADER: &str = r#"#!/bin/sh
case $1 in
--version) echo sunfleck 0 ;;
adapters)
    gpu=''
    case ${LD_LIBRARY_PATH:-} in
    *'my pack/loader/lib'*) gpu='{"name":"GPU","backend":"vulkan","device_type":"DiscreteGpu","driver":"d"},' ;;
    esac
    echo "[$gpu"'{"name":"llvmpipe","backend":"vulkan","device_type":"Cpu","driver":"m"}]'
    ;;
esac
"#;

#[test]
fn packed_loader_is_used_where_the_machine_finds_no_gpu() {
    let library_path = "#!/bin/sh\necho \"path: ${LD_LIBRARY_PATH:-none}\"\n\
                        echo 'test result: ok. 1 passed; 0 failed; 0 ignored'\n";
    let programs = [("test-gpu", library_path), ("sunfleck", NEEDS_LOADER)];
    let pack = Pack::with_own_program(&programs);
    assert_eq!(pack.run(&["test"]).code, Some(0));
    assert_eq!(pack.summary("test")["machine"]["adapter"], "llvmpipe");
    assert!(pack.result("test-gpu.log").contains("path: none"));

    fs::create_dir_all(pack.path("loader/lib")).unwrap();
    assert_eq!(pack.run(&["test"]).code, Some(0));
    assert_eq!(pack.summary("test")["machine"]["adapter"], "GPU");
    assert!(pack.result("test-gpu.log").contains("loader/lib"));

    // Without need, the machine's own loader is the right one.
    let pack = Pack::of(&[("test-gpu", library_path)], None);
    fs::create_dir_all(pack.path("loader/lib")).unwrap();
    assert_eq!(pack.run(&["test"]).code, Some(0));
    assert!(pack.result("test-gpu.log").contains("path: none"));
}

#[test]
fn step_that_is_cut_off_has_no_exit_status() {
    let looks = "#!/bin/sh\ncp results/summary-test.json results/during.json\n\
                 echo 'test result: ok. 1 passed; 0 failed; 0 ignored'\n";
    let pack = Pack::of(&[("test-a", PASSES), ("test-b", looks)], None);
    assert_eq!(pack.run(&["test"]).code, Some(0));
    let during: Value = serde_json::from_str(&pack.result("during.json")).unwrap();
    assert_eq!(during["steps"][0]["exit"], 0);
    assert_eq!(during["steps"][1]["name"], "test-b");
    assert!(during["steps"][1]["exit"].is_null() && during["exit"].is_null());
}
