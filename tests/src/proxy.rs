//! A proxy that injects faults. It runs before an ACME server or an API server and forwards all
//! requests to which no [`Rule`] applies.
//!
//! Pebble derives its URLs from the Host header of a request, which the proxy keeps: so all of its
//! URLs point to the proxy, and the `url` in a signed request is right. Clients negotiate HTTP/2 or
//! HTTP/1.1 over TLS; the server gets HTTP/1.1.

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

const REBIND_TIMEOUT: Duration = Duration::from_secs(5);

/// A running proxy. It ends when dropped.
pub struct Proxy {
    port: u16,
    state: Arc<State>,
    serving: Serving,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A request that the proxy received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The requested resource.
    pub kind: Kind,
    /// `POST /order-plz`
    pub line: String,
    /// The payload of a signed request, or null.
    pub payload: Value,
    /// When it arrived.
    pub at: Timestamp,
    /// Whether a rule applied to it.
    pub faulted: bool,
    /// The address of the client: one per connection.
    pub peer: u16,
}

/// State that the connections share.
#[derive(Debug)]
struct State {
    upstream: String,
    client: serve::Upstream,
    rules: Mutex<Vec<Rule>>,
    seen: Mutex<Vec<Seen>>,
}

impl Proxy {
    /// Starts one before Pebble, with Pebble's own TLS certificate: clients that trust Pebble trust
    /// it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn for_pebble(pebble: &Pebble) -> Result<Self> {
        let directory = pebble.directory();
        let upstream = directory.trim_end_matches("/dir");
        Self::start(upstream, pebble.trust(), pebble.serving().clone()).await
    }

    /// Starts one before an API server, with its own TLS certificate. Clients need a
    /// [kubeconfig](Proxy::use_proxy_in) for it.
    ///
    /// # Errors
    /// It does not start.
    pub async fn for_api_server(plane: &ControlPlane) -> Result<Self> {
        let serving = plane.serving();
        Self::start(&plane.url(), &serving.authority, serving.clone()).await
    }

    /// Writes a kubeconfig beside this one that uses the proxy.
    ///
    /// # Errors
    /// One of the files cannot be read or written.
    pub fn use_proxy_in(&self, kubeconfig: &Path) -> Result<PathBuf> {
        let through = kubeconfig.with_extension("proxy.yaml");
        let text = fs::read_to_string(kubeconfig)?;
        ensure!(text.contains(&self.state.upstream), "{} leads elsewhere", kubeconfig.display());
        fs::write(&through, text.replace(&self.state.upstream, &self.url()))?;
        Ok(through)
    }

    /// Starts one before the server at `upstream` (scheme, host and port), whose TLS certificate is
    /// from the CA in the PEM file `authority`. The proxy uses the certificate of `serving`.
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
        // A starting child process holds the closed socket for a moment.
        let listener = eventually(REBIND_TIMEOUT, "the port of the proxy is free", || async {
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

    /// Replaces the rules. The first that applies to a request counts.
    pub fn set_rules(&self, rules: impl IntoIterator<Item = Rule>) {
        *lock(&self.state.rules) = rules.into_iter().collect();
    }

    /// Removes all rules.
    pub fn clear_rules(&self) {
        self.set_rules([]);
    }

    /// The requests since the start or the last [`forget`](Proxy::forget).
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.state.seen).clone()
    }

    /// The requests of one kind.
    #[must_use]
    pub fn seen_of(&self, kind: Kind) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.kind == kind).collect()
    }

    /// The number of requests of one kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        lock(&self.state.seen).iter().filter(|seen| seen.kind == kind).count()
    }

    /// The number of requests, by kind.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for seen in &*lock(&self.state.seen) {
            *counts.entry(seen.kind).or_default() += 1;
        }
        counts
    }

    /// The number of requests.
    #[must_use]
    pub fn total(&self) -> usize {
        lock(&self.state.seen).len()
    }

    /// Clears the recorded requests.
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
    /// Records a request and returns its fault, if any.
    fn fault_for(&self, mut seen: Seen) -> Option<Fault> {
        let fault = lock(&self.rules).iter_mut().find_map(|rule| rule.fault_for(&seen));
        seen.faulted = fault.is_some();
        lock(&self.seen).push(seen);
        fault
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
