//! The servers of checks: those that the operator configured, and those of zones. Caches their
//! addresses.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use super::{
    authority::{AuthorityError, authoritative_servers},
    nameserver::Nameserver,
};
use crate::{
    clock::Clock,
    model::name::DnsName,
    net::{ResolveError, Resolver, Server, reach::AddressPolicy},
};

/// See the [module](self).
pub(super) struct Servers {
    configured: Vec<Nameserver>,
    role: Role,
    /// The permitted addresses of servers that a zone names.
    policy: Arc<AddressPolicy>,
    clock: Arc<dyn Clock>,
    /// Servers of zones by the name at which the lookup started.
    zones: Cache<DnsName, Vec<Server>>,
    /// The same for configured servers with a host name.
    hosts: Cache<Nameserver, Vec<Server>>,
    /// Why servers of zones did not answer: each attempt takes seconds, and a certificate may have
    /// a hundred names in one zone.
    silent: Cache<Server, String>,
}

/// What the configured servers are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Recursive resolvers: they find the servers of zones.
    Recursive,
    /// Servers of any type. The machine's resolvers find the servers of zones.
    Any,
}

impl Servers {
    pub(super) fn new(configured: Vec<Nameserver>, role: Role, clock: Arc<dyn Clock>) -> Self {
        Self {
            configured,
            role,
            policy: Arc::default(),
            clock,
            zones: Cache::new(ZONE_TTL),
            hosts: Cache::new(ZONE_TTL),
            silent: Cache::new(SILENCE_TTL),
        }
    }

    pub(super) fn within(self, policy: Arc<AddressPolicy>) -> Self {
        Self { policy, ..self }
    }

    pub(super) fn are_configured(&self) -> bool {
        !self.configured.is_empty()
    }

    /// The configured servers, all of which must be asked.
    ///
    /// # Errors
    /// When one has no address.
    pub(super) async fn configured(
        &self,
        resolver: &dyn Resolver,
    ) -> Result<Vec<Server>, ResolveError> {
        let mut servers = Vec::new();
        for nameserver in &self.configured {
            match nameserver {
                Nameserver::Address(address) => servers.push(Server::Address(*address)),
                Nameserver::Https(url) => servers.push(Server::Https(url.clone())),
                Nameserver::Host { name, port } => {
                    let now = self.clock.now();
                    if let Some(cached) = self.hosts.get(nameserver, now) {
                        servers.extend(cached);
                        continue;
                    }
                    let found = resolver.addresses(name, *port).await?;
                    let found: Vec<Server> = found.into_iter().map(Server::Address).collect();
                    self.hosts.insert(nameserver, &found, now);
                    servers.extend(found);
                }
            }
        }
        Ok(servers)
    }

    /// The recursive resolvers, in order of preference: the configured ones, or the machine's.
    ///
    /// # Errors
    /// When a configured one has no address.
    pub(super) async fn resolvers(
        &self,
        resolver: &dyn Resolver,
    ) -> Result<Vec<Server>, ResolveError> {
        match self.role {
            Role::Recursive if self.are_configured() => self.configured(resolver).await,
            Role::Recursive | Role::Any => {
                Ok(resolver.system_servers().into_iter().map(Server::Address).collect())
            }
        }
    }

    /// The authoritative servers of the zone of `start`.
    ///
    /// # Errors
    /// When they cannot be found, or must not be asked.
    pub(super) async fn of_zone(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
    ) -> Result<Vec<Server>, AuthorityError> {
        if let Some(cached) = self.zones.get(start, self.clock.now()) {
            return Ok(cached);
        }
        let resolvers = self.resolvers(resolver).await.map_err(AuthorityError::Resolver)?;
        let servers = authoritative_servers(resolver, &resolvers, &self.policy, start).await?;
        self.zones.insert(start, &servers, self.clock.now());
        Ok(servers)
    }

    /// Why `server` did not answer a short time ago.
    pub(super) fn silence(&self, server: &Server) -> Option<String> {
        self.silent.get(server, self.clock.now())
    }

    /// Remembers for a short time that `server` does not answer.
    pub(super) fn remember_silence(&self, server: &Server, why: &String) {
        self.silent.insert(server, why, self.clock.now());
    }

    /// Forgets the servers of the zone of `start`, which may be outdated.
    pub(super) fn forget(&self, start: &DnsName) {
        self.zones.lock(|entries| entries.remove(start));
    }
}

/// Values, and when they expire.
struct Cache<K, V> {
    ttl: SignedDuration,
    entries: Mutex<HashMap<K, (Timestamp, V)>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    fn new(ttl: SignedDuration) -> Self {
        Self { ttl, entries: Mutex::default() }
    }

    fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        self.lock(|entries| {
            entries.get(key).filter(|(until, _)| now < *until).map(|(_, value)| value.clone())
        })
    }

    fn insert(&self, key: &K, value: &V, now: Timestamp) {
        self.lock(|entries| {
            if entries.len() >= MAX_CACHED {
                entries.retain(|_, (until, _)| now < *until);
            }
            if entries.len() < MAX_CACHED {
                let until = now.saturating_add(self.ttl).unwrap_or(now);
                entries.insert(key.clone(), (until, value.clone()));
            }
        });
    }

    fn lock<T>(&self, access: impl FnOnce(&mut HashMap<K, (Timestamp, V)>) -> T) -> T {
        access(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Delegations change rarely, and a check without a result clears the entry.
const ZONE_TTL: SignedDuration = SignedDuration::from_mins(5);
/// The longest interval of checks, so that a server that is back delays no order.
const SILENCE_TTL: SignedDuration = SignedDuration::from_secs(15);
const MAX_CACHED: usize = 4096;
