//! `cargo xtask <verb>`: the project's commands, each of which does its own set-up.
//!
//! Everything said here goes to stderr, so that the stdout of `generate` stays the program's own.

use std::ffi::OsString;
use std::process::ExitCode;

mod adapter;
mod apt;
mod arguments;
mod browsers;
mod cache_folder;
mod compilers;
mod licences;
mod model;
mod model_lock;
mod npm;
mod outcome;
mod pack;
mod package;
mod packaged_file;
mod pip;
mod print;
mod progress;
mod repository;
mod rust_tools;
mod stamp;
mod test_adapters;
mod toolchain;
mod verbs;
mod vulkan_driver;
mod web_bench;
mod web_demo;
mod web_package;
mod web_tests;

use arguments::Request;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let request = match arguments::parse(&arguments) {
        Ok(request) => request,
        Err(message) => {
            eprintln!("error: {message}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    let outcome = match request {
        Request::Help(text) => print::line(text).map(|()| ExitCode::SUCCESS),
        Request::Generate(arguments) => verbs::generate::run(&arguments),
        Request::Test(request) => verbs::test::run(&request),
        Request::Bench(request) => verbs::bench::run(&request),
        Request::Pack(request) => verbs::pack::run(&request),
        Request::Portability(share) => verbs::portability::run(share.as_deref()),
        Request::Targets(since) => verbs::targets::run(since.as_deref()),
        Request::Interop => verbs::interop::run(),
        Request::Demo(port) => verbs::demo::run(port),
        Request::PackageWeb => verbs::package_web::run(),
        Request::Setup => verbs::setup::run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
