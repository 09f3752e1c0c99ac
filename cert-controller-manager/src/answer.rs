//! What the world asks: an authoritative DNS server for challenge names.
//!
//! A zone such as `acme.example.org` is delegated to it, and it publishes the TXT values of the
//! `DNSEntry` objects in that zone, so that no DNS provider is needed. Listens on UDP and TCP; reads
//! entries; writes their status.
//!
//! Not here: recursion, zone transfer, DNSSEC, any record that is no challenge's. Several processes
//! may answer side by side: each marks an entry Ready when *it* has the values, so behind a
//! delegation to several, whoever waits must ask each of them (our own look does).

pub mod server;
pub mod zone;

mod entries;
mod tcp;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use cert_lib::model::name::DnsName;
use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

use self::{
    entries::Served,
    server::{Server, Shared},
    zone::Table,
};

/// What is answered, where.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Sockets to bind, each for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// The zones that are delegated to us. The name server of each is `ns.<zone>`.
    pub zones: Vec<DnsName>,
    /// Class of the entries that are ours to publish; empty for those without a class.
    pub class: String,
    /// Where entries are looked for; everywhere when unset.
    pub namespace: Option<String>,
    /// Public addresses of this server (`--answer-address`). Without them the zones' name server has
    /// no address here, and only a delegation with glue leads to us.
    pub addresses: Vec<IpAddr>,
}

/// Why the responder ended.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// A socket could not be opened.
    #[error("cannot listen on {address}")]
    Bind {
        /// Address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The server broke while it ran.
    #[error("the DNS server ended: {0}")]
    Server(String),
}

/// Answers until `shutdown`. The sockets are open before the first entry is looked at, so an entry is
/// never marked Ready by a process that nobody can ask.
///
/// # Errors
/// When a socket cannot be opened, or the server breaks.
pub async fn run(
    options: Options,
    client: Client,
    shutdown: CancellationToken,
) -> Result<(), AnswerError> {
    let table = Table::new(&options.zones, &options.addresses, first_serial());
    let shared = Arc::new(Shared::new(table));
    let mut server = Server::bind(&options.listen, shared.clone()).await?;
    let served = Served::new(options.class, options.zones, shared);
    tokio::select! {
        ended = server.run() => ended,
        never = served.run(client, options.namespace) => match never {},
        () = shutdown.cancelled() => server.stop().await,
    }
}

/// Serials grow with time, so a restarted process does not go back.
fn first_serial() -> u32 {
    let seconds = Timestamp::now().as_second().rem_euclid(i64::from(u32::MAX));
    u32::try_from(seconds).unwrap_or_default()
}
