//! The command-line program `sunfleck`: text from a GGUF model on any GPU.

mod adapter;
mod answer;
mod arguments;
mod chat;
mod color;
mod costs_file;
mod drafters;
mod generate;
mod grammar;
mod print;
mod prompts;
mod report;
mod sampling;
mod session_file;
mod tree_size;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Adapters { json } => adapter::list(json).map(|()| ExitCode::SUCCESS),
        Command::Generate(arguments) => generate::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("sunfleck: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("  because: {cause}");
            source = cause.source();
        }
        ExitCode::FAILURE
    })
}
