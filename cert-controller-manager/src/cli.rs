//! The commands.

mod answer;
mod generate;
mod run;

use std::{io::Write, process::ExitCode};

use cert_lib::net::proxy::ProxySettings;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{self, Command, Environment, LogSettings, Outcome};

/// Reads the command line and does what it says. What goes wrong is told in one line on standard
/// error: what failed, where, and why.
#[must_use]
pub fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody can be told that nobody can be told.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<()> {
    let command = match config::parse(std::env::args_os(), &Environment::look())? {
        Outcome::Do(command) => command,
        Outcome::Show(text) => {
            // A reader that has seen enough is no error.
            let _ = text.print();
            return Ok(());
        }
    };
    // Whoever comes first decides for the whole process, so this is the first thing.
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

/// Starts the log on standard error.
fn log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = &settings.filter;
    // A plain level is about us: the DNS server would tell every question at `info`.
    let plain = !filter.contains(['=', ',']);
    let quiet = if plain { ",hickory_server=warn,hyper=warn,h2=warn,tower=warn" } else { "" };
    // It prints the whole body of an answer that it cannot read, and that may hold a key.
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

/// The proxies on the way to servers, named once in the log.
fn proxies() -> ProxySettings {
    let proxies = ProxySettings::from_env();
    for remark in proxies.remarks() {
        tracing::warn!("{remark}");
    }
    let shown = proxies.to_string();
    if !shown.is_empty() {
        tracing::info!("connections lead through proxies: {shown}");
    }
    proxies
}

/// Waits for SIGTERM or SIGINT.
async fn asked_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// The threads of the process: two are plenty, the work is waiting.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
