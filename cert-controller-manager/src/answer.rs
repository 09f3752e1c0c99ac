//! The responder: an authoritative DNS server for challenge names.
//!
//! A zone such as `acme.example.org` is delegated to it. It publishes the TXT values of the `DNSEntry`
//! objects in that zone, so that no DNS provider is necessary. Listens on UDP and TCP, reads entries, and
//! writes their status. The server and its table also work without entries: any source of records may fill
//! the table.
//!
//! Not here: recursion, zone transfer, DNSSEC, and other records. Several processes may run in parallel.
//! Each marks an entry Ready when *it* has the values, so a client must query all name servers of the
//! delegation, as our propagation check does.

pub mod authority;
pub mod mailbox;
pub mod options;
pub mod records;
pub mod server;
pub mod shared;
pub mod ttl;
pub mod zone;

mod entries;
mod error;
mod handler;
mod header;
mod rate_limit;
mod tcp;
mod udp;

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;
use tokio_util::sync::CancellationToken;

use self::{entries::Served, server::Server, zone::Table};
pub use self::{
    error::AnswerError,
    mailbox::Mailbox,
    options::{ServerOptions, ZoneOptions},
    records::Origin,
    shared::Shared,
};
use crate::runtime::metrics::Metrics;

/// Configuration of the responder.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The DNS server.
    pub server: ServerOptions,
    /// Class of the published entries; empty for entries without class.
    pub class: String,
    /// Namespace of the entries; all namespaces if unset.
    pub namespace: Option<String>,
}

/// An empty table for `zones`, whose values come from `origins`.
#[must_use]
pub fn table(zones: &ZoneOptions, origins: &[Origin]) -> Arc<Shared> {
    Arc::new(Shared::new(Table::new(zones, origins, first_serial())))
}

/// Publishes entries through `table` until `shutdown`. The sockets are open before the first entry is read,
/// so an entry is never marked Ready by a process that cannot be queried.
///
/// # Errors
/// When a socket cannot be bound, or the server fails.
pub async fn run(
    options: Options,
    table: Arc<Shared>,
    client: Client,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), AnswerError> {
    let mut server = Server::bind(&options.server, table.clone(), metrics).await?;
    let served = Served::new(options.class, &options.server.zones, table);
    tokio::select! {
        result = server.run() => result,
        never = served.run(client, options.namespace) => match never {},
        () = shutdown.cancelled() => {
            server.stop().await;
            Ok(())
        }
    }
}

/// The first serial grows with time, so that it does not decrease after a restart.
fn first_serial() -> u32 {
    let seconds = Timestamp::now().as_second().rem_euclid(i64::from(u32::MAX));
    u32::try_from(seconds).unwrap_or_default()
}
