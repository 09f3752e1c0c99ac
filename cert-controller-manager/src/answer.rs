//! The responder: an authoritative DNS server for challenge names.
//!
//! A zone such as `acme.example.org` is delegated to it. It publishes the TXT values of the `DNSEntry`
//! objects in that zone, so that no DNS provider is necessary. Listens on UDP and TCP, reads entries, and
//! writes their status.
//!
//! Not here: recursion, zone transfer, DNSSEC, and other records. Several processes may run in parallel.
//! Each marks an entry Ready when *it* has the values, so a client must query all name servers of the
//! delegation, as our propagation check does.

pub mod server;
pub mod zone;

mod entries;
mod error;
mod handler;
mod tcp;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use cert_lib::model::name::DnsName;
use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

pub use self::error::AnswerError;
use self::{entries::Served, handler::Shared, server::Server, zone::Table};

/// Configuration of the responder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Addresses to bind, for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Delegated zones. The name server of each is `ns.<zone>`.
    pub zones: Vec<DnsName>,
    /// Class of the published entries; empty for entries without class.
    pub class: String,
    /// Namespace of the entries; all namespaces if unset.
    pub namespace: Option<String>,
    /// Public addresses of this server (`--answer-address`). Without them, the name server has no address
    /// records, and the delegation needs glue.
    pub addresses: Vec<IpAddr>,
}

/// Runs the responder until `shutdown`. The sockets are open before the first entry is read, so an entry
/// is never marked Ready by a process that cannot be queried.
///
/// # Errors
/// When a socket cannot be bound, or the server fails.
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
        result = server.run() => result,
        never = served.run(client, options.namespace) => match never {},
        () = shutdown.cancelled() => server.stop().await,
    }
}

/// The first serial grows with time, so that it does not decrease after a restart.
fn first_serial() -> u32 {
    let seconds = Timestamp::now().as_second().rem_euclid(i64::from(u32::MAX));
    u32::try_from(seconds).unwrap_or_default()
}
