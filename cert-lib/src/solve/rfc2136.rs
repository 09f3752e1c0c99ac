//! Dynamic updates (RFC 2136): TXT records in a zone of BIND, Knot, PowerDNS and others.
//!
//! Sends one message per change, which the server applies as a whole, so changes of others are
//! never overwritten. Messages are signed with a key (TSIG, RFC 8945), and answers verified.
//!
//! Not here: secondary servers. The propagation check waits for them, see
//! [`dns01`](super::dns01).

mod failure;
mod message;
mod transport;
mod tsig;
mod wire;
mod zone;

pub use transport::Protocol;
pub use tsig::{TsigAlgorithm, TsigKey, TsigKeyError};

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use self::{
    failure::Attempt,
    transport::Link,
    zone::{find, present_ttl},
};
use super::{SolveError, dns_records::DnsRecords, dns01::Nameserver};
use crate::{clock::Clock, model::name::DnsName, net::reach::AddressPolicy};

/// A server that takes dynamic updates.
pub struct Rfc2136 {
    link: Link,
    zone: Option<DnsName>,
    ttl: u32,
    clock: Arc<dyn Clock>,
    /// Zones that were found, by name, and when they expire.
    zones: Mutex<HashMap<DnsName, (Timestamp, DnsName)>>,
}

/// How to reach and update a server.
#[derive(Clone, Debug)]
pub struct Rfc2136Config {
    /// The primary of the zone.
    pub nameserver: Nameserver,
    /// Signs the messages. Without a key, the server must permit unsigned updates.
    pub key: Option<TsigKey>,
    /// How messages are sent.
    pub protocol: Protocol,
    /// The zone; without it, the longest one that the server is authoritative for.
    pub zone: Option<DnsName>,
    /// Lifetime of the records in seconds. At a name with TXT records of others, theirs is kept.
    pub ttl: u32,
    /// Restricts the addresses of the server.
    pub policy: Option<Arc<AddressPolicy>>,
}

impl Rfc2136Config {
    /// Updates `nameserver` over UDP, unsigned, with records that live for [`DEFAULT_TTL`].
    #[must_use]
    pub fn new(nameserver: Nameserver) -> Self {
        let protocol = Protocol::default();
        Self { nameserver, key: None, protocol, zone: None, ttl: DEFAULT_TTL, policy: None }
    }
}

impl Rfc2136 {
    /// Opens no connection: errors appear with the first change.
    #[must_use]
    pub fn new(config: Rfc2136Config, clock: Arc<dyn Clock>) -> Self {
        let Rfc2136Config { nameserver, key, protocol, zone, ttl, policy } = config;
        let link = Link::new(nameserver, key, protocol, policy, Arc::clone(&clock));
        Self { link, zone, ttl, clock, zones: Mutex::default() }
    }

    async fn add_records(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        let zone = self.zone_of(fqdn).await?;
        let ttl = present_ttl(&self.link, fqdn).await?.unwrap_or(self.ttl);
        self.update(&message::addition(&zone, fqdn, values, ttl)?, &zone, fqdn).await
    }

    async fn remove_records(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        let zone = self.zone_of(fqdn).await?;
        self.update(&message::removal(&zone, fqdn, values)?, &zone, fqdn).await
    }

    async fn update(
        &self,
        message: &Message,
        zone: &DnsName,
        fqdn: &DnsName,
    ) -> Result<(), SolveError> {
        let reply = self.link.send(message).await?;
        let code = reply.message.metadata.response_code;
        if matches!(code, ResponseCode::NotAuth | ResponseCode::NotZone) {
            // The zone may have been split or moved.
            self.zones().remove(fqdn);
        }
        let key = self.link.key();
        Attempt { server: &reply.server, key, fqdn, zone: Some(zone) }
            .check(&reply.message, reply.trust)
    }

    async fn zone_of(&self, fqdn: &DnsName) -> Result<DnsName, SolveError> {
        if let Some(zone) = &self.zone {
            return match fqdn.is_within(zone) {
                true => Ok(zone.clone()),
                false => Err(SolveError::Misconfigured(format!(
                    "{fqdn} is not in zone {zone}: correct zone, remove it to have the zone found, \
                     or restrict the selector of the solver"
                ))),
            };
        }
        let known = self.zones().get(fqdn).cloned();
        if let Some((until, zone)) = known
            && self.clock.now() < until
        {
            return Ok(zone);
        }
        let zone = find(&self.link, fqdn).await?;
        let now = self.clock.now();
        let mut zones = self.zones();
        if zones.len() >= MAX_ZONES {
            zones.retain(|_, (until, _)| now < *until);
        }
        if zones.len() < MAX_ZONES {
            let until = now.saturating_add(ZONE_TTL).unwrap_or(now);
            zones.insert(fqdn.clone(), (until, zone.clone()));
        }
        Ok(zone)
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<DnsName, (Timestamp, DnsName)>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn within_deadline(
        &self,
        fqdn: &DnsName,
        change: impl Future<Output = Result<(), SolveError>>,
    ) -> Result<(), SolveError> {
        timeout(DEADLINE, change).await.unwrap_or_else(|_| {
            let server = self.link.nameserver();
            let seconds = DEADLINE.as_secs();
            Err(SolveError::Unavailable(format!(
                "the update of {fqdn} at name server {server} took longer than {seconds} s"
            )))
        })
    }
}

#[async_trait]
impl DnsRecords for Rfc2136 {
    async fn add(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        match values {
            [] => Ok(()),
            _ => self.within_deadline(fqdn, self.add_records(fqdn, values)).await,
        }
    }

    async fn remove(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        match values {
            [] => Ok(()),
            _ => self.within_deadline(fqdn, self.remove_records(fqdn, values)).await,
        }
    }
}

impl fmt::Debug for Rfc2136 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, key) = (self.link.nameserver(), self.link.key());
        f.debug_struct("Rfc2136").field("nameserver", server).field("key", &key).finish()
    }
}

/// That of cert-manager, in seconds.
pub const DEFAULT_TTL: u32 = 60;
/// For a whole change: the questions for the zone and the records, and the update.
const DEADLINE: Duration = Duration::from_secs(30);
/// Zones change rarely, and a refused update clears the entry.
const ZONE_TTL: SignedDuration = SignedDuration::from_mins(5);
const MAX_ZONES: usize = 4096;

#[cfg(test)]
mod tests;
