//! Flags, configuration file and environment become [`Settings`], once. Nothing else reads them.

mod classes;
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

pub use classes::Classes;
pub use command::{clap, parse, version};
pub use duration::{duration, go_duration};
pub use reference::reference;
pub use settings::{
    AcmeLimits, AnswerArgs, AnswerSettings, CertificateSettings, ClusterOptions, ClusterSettings,
    Controllers, CrdSettings, DnsSettings, IssuerSettings, Kubeconfig, LeaseSettings, LogSettings,
    Settings, SourceSettings, SourcesSettings,
};
pub use values::Environment;

/// What the command line asks for.
#[derive(Debug)]
pub enum Outcome {
    /// To do something.
    Do(Command),
    /// To print the help or the version.
    Show(::clap::Error),
}

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Manage certificates.
    Run(Box<Settings>),
    /// Answer DNS queries for challenge records, in place of a DNS provider.
    Answer(Box<AnswerArgs>),
    /// Print files that are generated from the program.
    Generate {
        /// What to print.
        what: crate::generate::What,
        /// Where to write them instead of printing.
        directory: Option<PathBuf>,
    },
    /// Print the version.
    Version,
}

#[cfg(test)]
mod tests;
