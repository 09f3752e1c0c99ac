//! PowerDNS as a server of TXT records, through its HTTP API: [`PowerDns`].
//!
//! A change replaces the whole record set of a name. So this reads the set, keeps the records of
//! others, writes, and reads again, because another client may have overwritten the change. Changes
//! of one name in this process wait for each other ([`NameLocks`]), and changes of different names
//! do not, unless the server turns out to fail then.
//!
//! The API has no atomic change. If two processes change one name within some milliseconds, one may
//! overwrite the other after its checks. So a caller that does not see its values at the DNS server
//! adds them again.
//!
//! Not here: the connection, which the caller configures (CA bundle, proxies, permitted addresses);
//! waiting for secondary servers.

mod api;
mod edit;
mod failure;
mod locks;
mod server;
mod txt;
mod wire;
mod zones;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::timeout;

use self::{
    api::{Api, Written},
    edit::Edit,
    locks::NameLock,
    server::Server,
    wire::{Found, RecordSet},
    zones::{Zone, Zones},
};
pub use self::{locks::NameLocks, server::ApiKey};
use super::{SolveError, dns_records::DnsRecords};
use crate::{clock::Clock, model::name::DnsName, net::Http};

/// A PowerDNS server.
pub struct PowerDns {
    api: Api,
    zone: Option<DnsName>,
    ttl: u32,
    zones: Zones,
    /// Set after an internal error of the server.
    one_at_a_time: AtomicBool,
    clock: Arc<dyn Clock>,
    locks: Arc<NameLocks>,
}

/// What a [`PowerDns`] needs.
pub struct PowerDnsConfig {
    /// The address of the API, such as `http://powerdns.dns.svc:8081`. A trailing `/` or `/api/v1`
    /// has no effect.
    pub url: String,
    /// The id of the server in the API, usually [`DEFAULT_SERVER_ID`].
    pub server_id: String,
    /// The zone of all names. `None`: the longest zone of the server that contains the name.
    pub zone: Option<DnsName>,
    /// The API key.
    pub api_key: ApiKey,
    /// Where the key is from, for messages, such as `Secret dns/powerdns key apikey`.
    pub credential: String,
    /// TTL of new records, in seconds. Existing records keep theirs.
    pub ttl: u32,
    /// Sends the requests.
    pub http: Arc<dyn Http>,
    /// Limits the age of cached zones.
    pub clock: Arc<dyn Clock>,
    /// Shared by all servers of the process.
    pub locks: Arc<NameLocks>,
}

impl PowerDns {
    /// Checks the configuration. Sends nothing.
    ///
    /// # Errors
    /// When a value cannot be used: the message says what to do.
    pub fn new(config: PowerDnsConfig) -> Result<Self, SolveError> {
        let PowerDnsConfig { url, server_id, zone, api_key, credential, ttl, .. } = config;
        let server = Server::new(&url, &server_id, api_key, &credential)?;
        if zone.as_ref().is_some_and(DnsName::is_wildcard) {
            return Err(SolveError::Misconfigured(
                "zone of the PowerDNS solver is a wildcard: write the name of the zone".to_owned(),
            ));
        }
        if ttl > MAX_TTL {
            return Err(SolveError::Misconfigured(format!(
                "ttl {ttl} of the PowerDNS solver is larger than {MAX_TTL}: use one such as 60"
            )));
        }
        let api = Api::new(server, config.http);
        let (clock, locks) = (config.clock, config.locks);
        let (zones, one_at_a_time) = (Zones::default(), AtomicBool::new(false));
        Ok(Self { api, zone, ttl, zones, one_at_a_time, clock, locks })
    }

    /// Applies `edit` within the deadline, alone for this name.
    async fn apply(&self, fqdn: &DnsName, edit: Edit<'_>) -> Result<(), SolveError> {
        let within = timeout(DEADLINE, self.apply_alone(fqdn, edit)).await;
        let outcome = within.unwrap_or_else(|_| {
            let url = &self.api.server().url;
            Err(SolveError::Unavailable(format!(
                "PowerDNS {url} is slow: not done within {} s; check the load of the server and its \
                 database",
                DEADLINE.as_secs()
            )))
        });
        outcome.map_err(|error| {
            let message = |why| format!("cannot change TXT records of {fqdn}: {why}");
            match error {
                SolveError::Unavailable(why) => SolveError::Unavailable(message(why)),
                SolveError::Misconfigured(why) => SolveError::Misconfigured(message(why)),
                SolveError::CredentialRefused(why) => SolveError::CredentialRefused(message(why)),
            }
        })
    }

    async fn apply_alone(&self, fqdn: &DnsName, edit: Edit<'_>) -> Result<(), SolveError> {
        if let Some(zone) = self.zone.as_ref().filter(|zone| !fqdn.is_within(zone)) {
            return Err(SolveError::Misconfigured(format!(
                "the name is not in {zone}, the zone of the PowerDNS solver: change zone, or select \
                 another solver for this name"
            )));
        }
        let key = format!("{} {fqdn}", self.api.server().api());
        let _alone = self.alone(key).await?;
        let now = self.clock.now();
        let zone = self.zones.find(fqdn, self.zone.as_ref(), &self.api, now).await?;
        let outcome = self.write(&zone, fqdn, edit).await;
        if outcome.is_err() {
            self.zones.forget(&zone);
        }
        outcome
    }

    /// Writes until the values are as they should be.
    async fn write(&self, zone: &Zone, fqdn: &DnsName, edit: Edit<'_>) -> Result<(), SolveError> {
        let mut failure = None;
        for _ in 0..MAX_WRITES {
            let turn = self.turn().await?;
            let set = self.read(zone, fqdn).await?;
            let Some(change) = edit.change(&set, self.ttl) else { return Ok(()) };
            let written = self.api.patch(&zone.name, fqdn, &change).await?;
            drop(turn);
            failure = match written {
                Written::Failed(error) => {
                    self.one_at_a_time.store(true, Ordering::Relaxed);
                    Some(error)
                }
                Written::Done if self.is_done(zone, fqdn, edit).await? => return Ok(()),
                Written::Done => None,
            };
        }
        Err(failure.unwrap_or_else(|| {
            SolveError::Unavailable(format!(
                "PowerDNS {} does not keep the changes: another client overwrites them, or the API \
                 reads from a copy of the database that lags behind",
                self.api.server().url
            ))
        }))
    }

    /// Waits for other changes of this server if it has failed before. With SQLite, PowerDNS fails
    /// with "database is locked" where it changes two names at once.
    async fn turn(&self) -> Result<Option<NameLock>, SolveError> {
        if !self.one_at_a_time.load(Ordering::Relaxed) {
            return Ok(None);
        }
        self.alone(self.api.server().api()).await.map(Some)
    }

    async fn alone(&self, key: String) -> Result<NameLock, SolveError> {
        self.locks.acquire(key).await.ok_or_else(|| {
            SolveError::Unavailable("too many changes of records are running; try later".to_owned())
        })
    }

    /// Reads more than once: another client that read the records before this change writes its own
    /// soon after it.
    async fn is_done(
        &self,
        zone: &Zone,
        fqdn: &DnsName,
        edit: Edit<'_>,
    ) -> Result<bool, SolveError> {
        for _ in 0..CHECKS {
            if !edit.is_done(&self.api.record_set(&zone.name, fqdn).await?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The TXT records of `fqdn`, disabled ones too. PowerDNS 4.7 lists these with the whole zone,
    /// or finds them by a search, but does not return them with a single record set.
    async fn read(&self, zone: &Zone, fqdn: &DnsName) -> Result<RecordSet, SolveError> {
        if !zone.is_large() {
            let listed = self.api.listed(&zone.name, fqdn).await?;
            zone.measured(listed.as_ref().map(|listed| listed.bytes));
            if let Some(listed) = listed {
                return Ok(listed.set);
            }
        }
        let disabled = self.api.disabled(&zone.name, fqdn).await?;
        let mut set = self.api.record_set(&zone.name, fqdn).await?;
        for Found { record, ttl, .. } in disabled {
            if set.records.is_empty() {
                set.ttl = ttl;
            }
            if !set.records.contains(&record) {
                set.records.push(record);
            }
        }
        Ok(set)
    }
}

#[async_trait]
impl DnsRecords for PowerDns {
    async fn add(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        self.apply(fqdn, Edit::Add(values)).await
    }

    async fn remove(&self, fqdn: &DnsName, values: &[String]) -> Result<(), SolveError> {
        self.apply(fqdn, Edit::Remove(values)).await
    }
}

impl fmt::Debug for PowerDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (server, zone) = (self.api.server(), &self.zone);
        f.debug_struct("PowerDns").field("server", server).field("zone", zone).finish()
    }
}

/// The id of a server in its own API.
pub const DEFAULT_SERVER_ID: &str = "localhost";
/// Largest TTL (RFC 2181 section 8).
const MAX_TTL: u32 = 0x7fff_ffff;
/// All requests of one call; one request has the deadline of its [`Http`].
const DEADLINE: Duration = Duration::from_secs(60);
/// Writes of one call. Others that write the same name at the same time are rare.
const MAX_WRITES: usize = 5;
/// Reads after a write. With two, one of 25 simultaneous changes of two processes was lost; with
/// three, none of 600.
const CHECKS: usize = 3;

#[cfg(test)]
mod tests;
