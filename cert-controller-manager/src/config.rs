//! Reads flags, configuration file and environment into [`Settings`], once.

mod command;
mod controllers;
mod duration;
mod file;
pub mod flags;
mod help;
mod outcome;
mod read;
mod reference;
mod settings;
mod values;

pub use command::{clap, parse, version};
pub use controllers::SourceController;
pub use duration::{duration, go_duration};
pub use outcome::{Command, Outcome};
pub use reference::reference;
pub use settings::{
    AcmeLimits, AnswerArgs, CertificateSettings, ClusterOptions, ClusterSettings, Controllers,
    CrdSettings, DnsSettings, IssuerSettings, Kubeconfig, LeaseSettings, LogSettings, Settings,
    SourceSettings, SourcesSettings,
};
pub use values::Environment;

#[cfg(test)]
mod tests;
