//! A proxy that misbehaves as it is told. It stands before an ACME server or an API server and
//! passes everything on until a [`Rule`] says otherwise.
//!
//! Pebble makes its URLs from the Host header of a request, which is passed on as it comes: so all of
//! its URLs lead through the proxy, and the `url` in a signed request is right. Towards clients it
//! speaks HTTP/2 and HTTP/1.1 over TLS, as they negotiate; towards the server HTTP/1.1.

pub mod connect;
pub mod forge;
pub mod rule;
mod serve;
pub mod socks;

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{
    Look, controlplane::ControlPlane, eventually, pebble::Pebble, processes::free_port,
    tls::Serving,
};

pub use rule::{Answer, Fault, Kind, Rule};

const PATIENCE: Duration = Duration::from_secs(5);

/// A running proxy. It ends when dropped.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    serving: Serving,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// One request that came to the proxy.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it asks for.
    pub kind: Kind,
    /// `POST /order-plz`
    pub line: String,
    /// The payload of a signed request, or null.
    pub payload: Value,
    /// When it came.
    pub at: Timestamp,
    /// Whether a rule said something of it.
    pub faulted: bool,
    /// The address from which it came: one per connection.
    pub peer: u16,
}

/// What the connections share.
#[derive(Debug)]
struct State {
    upstream: String,
    client: serve::Upstream,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Starts one before Pebble, with Pebble's own TLS certificate: whoever trusts Pebble trusts it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn before(pebble: &Pebble) -> Result<Self> {
        let directory = pebble.directory();
        let upstream = directory.trim_end_matches("/dir");
        Self::start(upstream, pebble.trust(), pebble.serving().clone()).await
    }

    /// Starts one before an API server, with its own TLS certificate. Whoever shall go through it needs
    /// a [kubeconfig](Proxy::lead_through) that leads here.
    ///
    /// # Errors
    /// It does not start.
    pub async fn before_api_server(plane: &ControlPlane) -> Result<Self> {
        let serving = plane.serving();
        Self::start(&plane.url(), &serving.authority, serving.clone()).await
    }

    /// Writes a kubeconfig beside this one that leads through the proxy.
    ///
    /// # Errors
    /// The one cannot be read, or the other not be written.
    pub fn lead_through(&self, kubeconfig: &Path) -> Result<PathBuf> {
        let through = kubeconfig.with_extension("proxy.yaml");
        let text = fs::read_to_string(kubeconfig)?;
        ensure!(text.contains(&self.state.upstream), "{} leads elsewhere", kubeconfig.display());
        fs::write(&through, text.replace(&self.state.upstream, &self.url()))?;
        Ok(through)
    }

    /// Starts one before the server at `upstream` (scheme, host and port), whose TLS certificate is
    /// from the CA in the PEM file `authority`. It serves with the certificate of `serving`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(upstream: &str, authority: &Path, serving: Serving) -> Result<Self> {
        let state = State {
            upstream: upstream.trim_end_matches('/').to_owned(),
            client: serve::upstream(authority)?,
            rules: Mutex::default(),
            seen: Mutex::default(),
        };
        let (state, task) = (Arc::new(state), Mutex::default());
        let proxy = Self { port: free_port()?, state, serving, task };
        proxy.open().await?;
        Ok(proxy)
    }

    /// Listens again after [`Proxy::close`].
    ///
    /// # Errors
    /// The port is taken.
    pub async fn open(&self) -> Result<()> {
        // A process that begins just now has the socket that was closed for a moment longer.
        let listener = eventually(PATIENCE, "the port of the proxy is free", || async {
            Ok(Look::Done(TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?))
        });
        let listener = listener.await?;
        let tls = serve::acceptor(&self.serving)?;
        let task = tokio::spawn(serve::accept(listener, tls, Arc::clone(&self.state)));
        *lock(&self.task) = Some(task);
        Ok(())
    }

    /// Ends all connections and refuses new ones.
    pub fn close(&self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// Its address: `https://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The address of the ACME directory behind it.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("{}/dir", self.url())
    }

    /// Misbehaves by these rules from now on, and no others. The first that applies to a request
    /// counts.
    pub fn misbehave(&self, rules: impl IntoIterator<Item = Rule>) {
        *lock(&self.state.rules) = rules.into_iter().collect();
    }

    /// Behaves from now on.
    pub fn behave(&self) {
        self.misbehave([]);
    }

    /// What has come since it started or was told to forget.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// What has come of one kind.
    #[must_use]
    pub fn seen_of(&self, kind: Kind) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    /// How many requests of one kind have come.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        lock(&self.state.seen).iter().filter(|seen| seen.kind == kind).count()
    }

    /// How many requests have come, by kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for seen in &*lock(&self.state.seen) {
            *counts.entry(seen.kind).or_default() += 1;
        }
        counts
    }

    /// How many requests have come.
    #[must_use]
    pub fn total(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// Counts from zero again.
    pub fn forget(&self) {
        lock(&self.state.seen).clear();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Notes a request, and returns what shall become of it.
    fn judge(&self, mut seen: Seen) -> Option<Fault> {
        let fault = lock(&self.rules).iter_mut().find_map(|rule| rule.judge(&seen));
        seen.faulted = fault.is_some();
        lock(&self.seen).push(seen);
        fault
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
