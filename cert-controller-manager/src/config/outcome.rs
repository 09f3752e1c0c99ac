//! The result of parsing the command line.

use std::path::PathBuf;

use super::settings::{AnswerArgs, Settings};
use crate::cli::GeneratedFiles;

/// The result of parsing the command line.
#[derive(Debug)]
pub enum Outcome {
    /// Run a command.
    Do(Command),
    /// Print the help or the version.
    Show(::clap::Error),
}

/// A command with its settings.
#[derive(Debug)]
pub enum Command {
    /// Manage certificates.
    Run(Box<Settings>),
    /// Answer DNS queries for challenge records, in place of a DNS provider.
    Answer(Box<AnswerArgs>),
    /// Print files that are generated from the program.
    Generate {
        /// The files to generate.
        what: GeneratedFiles,
        /// The directory to write them to, instead of printing.
        directory: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}
