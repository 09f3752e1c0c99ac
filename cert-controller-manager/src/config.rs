//! Reads flags, configuration file and environment into [`Settings`], once.

mod command;
mod duration;
mod file;
pub mod flags;
mod help;
mod read;
mod reference;
mod settings;
mod values;

use std::path::PathBuf;

pub use command::{clap, parse, version};
pub use duration::{duration, go_duration};
pub use reference::reference;
pub use settings::{
    AcmeLimits, AnswerArgs, AnswerSettings, CertificateSettings, ClusterOptions, ClusterSettings,
    Controllers, CrdSettings, DnsSettings, IssuerSettings, Kubeconfig, LeaseSettings, LogSettings,
    Settings, SourceSettings, SourcesSettings,
};
pub use values::Environment;

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
        what: crate::generate::GeneratedFiles,
        /// The directory to write them to, instead of printing.
        directory: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

#[cfg(test)]
mod tests;
