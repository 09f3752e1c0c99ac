//! The commands of the program.

mod answer;
mod generate;
mod generated_files;
mod run;

use std::{io::Write, process::ExitCode};

use cert_lib::net::proxy::ProxySettings;
use tracing_subscriber::{EnvFilter, fmt};

pub use self::generated_files::GeneratedFiles;
use crate::config::{self, Command, Environment, LogSettings, Outcome};

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

/// Initializes logging to standard error.
fn log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = &settings.filter;
    // A plain level applies to this program only: the DNS server logs every query at `info`.
    let plain = !filter.contains(['=', ',']);
    let quiet = if plain { ",hickory_server=warn,hyper=warn,h2=warn,tower=warn" } else { "" };
    // kube_client logs the whole body of a response that it cannot decode, which may contain a key.
    let quiet = format!("{quiet},kube_client::client=off");
    let filter = EnvFilter::try_new(format!("{filter}{quiet}"))
        .map_err(|error| anyhow::anyhow!("--log-level {filter}: {error}"))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if settings.json {
        builder.json().flatten_event(true).init();
    } else {
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        builder.with_ansi(colours).with_target(false).init();
    }
    Ok(())
}

/// Reads the proxies from the environment and logs them once.
fn proxies() -> ProxySettings {
    let proxies = ProxySettings::from_env();
    for remark in proxies.remarks() {
        tracing::warn!("{remark}");
    }
    let shown = proxies.to_string();
    if !shown.is_empty() {
        tracing::info!("connections use proxies: {shown}");
    }
    proxies
}

/// Waits for SIGTERM or SIGINT.
async fn termination_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// The async runtime. Two threads are sufficient, because tasks mostly wait.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
