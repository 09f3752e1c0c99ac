//! What the commands that serve share: logging, proxies, signals and the async runtime.

use cert_lib::net::proxy::ProxySettings;
use tracing_subscriber::{EnvFilter, fmt};

use crate::config::LogSettings;

/// Initializes logging to standard error.
pub(super) fn log(settings: &LogSettings) -> anyhow::Result<()> {
    let filter = &settings.filter;
    // A plain level applies to this program only.
    let plain = !filter.contains(['=', ',']);
    let quiet = if plain { ",hyper=warn,h2=warn,tower=warn" } else { "" };
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
pub(super) fn proxies() -> ProxySettings {
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
pub(super) async fn termination_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    Ok(())
}

/// The async runtime. Two threads are sufficient, because tasks mostly wait.
pub(super) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
