//! The commands of the program.

mod answer;
mod generate;
mod generated_files;
mod process;
mod run;

use std::{io::Write, process::ExitCode};

pub use self::generated_files::GeneratedFiles;
use crate::config::{self, Command, Environment, Outcome};

/// Runs the command of the command line. An error is printed in one line on standard error.
#[must_use]
pub fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is no other place to report a failure of standard error.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<()> {
    let command = match config::parse(std::env::args_os(), &Environment::detect())? {
        Outcome::Do(command) => command,
        Outcome::Show(text) => {
            // A closed pipe is not an error.
            let _ = text.print();
            return Ok(());
        }
    };
    // The first provider is used by the whole process, so install it first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match command {
        Command::Run(settings) => run::main(*settings),
        Command::Answer(args) => answer::main(*args),
        Command::Generate { what, directory } => generate::main(what, directory.as_deref()),
        Command::Version => {
            let _ = writeln!(std::io::stdout(), "cert-controller-manager {}", config::version());
            Ok(())
        }
    }
}
