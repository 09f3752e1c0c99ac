//! DNS-01: checks whether the values of a challenge name are visible to the CA.
//!
//! Asks, through a [`Resolver`], every authoritative server of the name's zone, or the name servers
//! that the operator configured instead. Caches the addresses of a zone's servers for some minutes.
//!
//! Not here: publishing and waiting. The result of [`Propagation::check`] is valid for this moment;
//! a caller that waits additionally stores when it was first [`Visibility::Seen`].

mod authority;
mod delegation;
mod nameserver;

pub use delegation::DelegationError;
pub use nameserver::{Nameserver, NameserverError};

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use self::authority::{AuthorityError, authoritative_servers};
use crate::{
    clock::Clock,
    model::name::DnsName,
    net::{Answer, Record, RecordKind, ResolveError, Resolver, reach::AddressPolicy},
};

/// Checks whether TXT values have reached the servers that the CA asks.
pub struct Propagation {
    nameservers: Vec<Nameserver>,
    /// The permitted addresses of servers that a zone names.
    policy: Arc<AddressPolicy>,
    clock: Arc<dyn Clock>,
    /// Servers of zones by the name at which the lookup started, and when they expire.
    lock_cache: Mutex<ServerCache<DnsName>>,
    /// The same for configured servers with a host name.
    hosts: Mutex<ServerCache<Nameserver>>,
}

/// Addresses, and when they expire.
type ServerCache<K> = HashMap<K, (Timestamp, Vec<SocketAddr>)>;

/// The result of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// All relevant servers have all values.
    Seen {
        /// All of these servers are authoritative for the name (AA bit), so no cache is involved.
        authoritative: bool,
    },
    /// At least one relevant server lacks a value. Never quotes a value.
    NotSeen {
        /// A message for users that names the server.
        why: String,
    },
}

/// How long to wait after the values are visible: as configured, or else nothing if authoritative
/// servers were asked, and the lifetime of caches if not.
#[must_use]
pub fn additional_wait(configured: Option<SignedDuration>, authoritative: bool) -> SignedDuration {
    match (configured, authoritative) {
        (Some(wait), _) => wait,
        (None, true) => SignedDuration::ZERO,
        (None, false) => WAIT_BEHIND_CACHES,
    }
}

impl Propagation {
    /// Checks `nameservers`, all of which must have the values; without any, the authoritative
    /// servers of the zone.
    #[must_use]
    pub fn new(nameservers: Vec<Nameserver>, clock: Arc<dyn Clock>) -> Self {
        Self {
            nameservers,
            policy: Arc::default(),
            clock,
            lock_cache: Mutex::default(),
            hosts: Mutex::default(),
        }
    }

    /// Restricts the servers that a zone names to addresses that `policy` permits; the default is
    /// public addresses. The name servers of [`new`](Self::new) are the operator's and are not
    /// restricted.
    #[must_use]
    pub fn within(self, policy: Arc<AddressPolicy>) -> Self {
        Self { policy, ..self }
    }

    /// Checks once whether all `values` are records of `fqdn`. Other records are allowed: another
    /// client may prove the same name.
    pub async fn check(
        &self,
        resolver: &dyn Resolver,
        fqdn: &DnsName,
        values: &[String],
    ) -> Visibility {
        let look = self.check_without_deadline(resolver, fqdn, values);
        timeout(DEADLINE, look).await.unwrap_or_else(|_| {
            not_seen(format!("looking for {fqdn} took longer than {} s", DEADLINE.as_secs()))
        })
    }

    async fn check_without_deadline(
        &self,
        resolver: &dyn Resolver,
        fqdn: &DnsName,
        values: &[String],
    ) -> Visibility {
        if !self.nameservers.is_empty() {
            let nameservers = match self.configured(resolver).await {
                Ok(nameservers) => nameservers,
                Err(error) => return not_seen(format!("{fqdn}: {error}")),
            };
            let views = ask_all(resolver, &nameservers, fqdn, values).await;
            return evaluate(fqdn, &views, Unusable::Counts);
        }
        // Starts at the parent: a question for the challenge name itself would put its absence into
        // the cache of the machine's resolver, which the CA may use.
        let parent = fqdn.parent().unwrap_or_else(|| fqdn.clone());
        let sight = self.check_from(resolver, &parent, fqdn, values).await;
        if matches!(sight, Err(AuthorityError::Referred)) {
            // The challenge name is a zone of its own, so it exists.
            return self
                .check_from(resolver, fqdn, fqdn, values)
                .await
                .unwrap_or_else(|astray| not_seen(astray.explain(fqdn)));
        }
        sight.unwrap_or_else(|astray| not_seen(astray.explain(fqdn)))
    }

    async fn check_from(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
        fqdn: &DnsName,
        values: &[String],
    ) -> Result<Visibility, AuthorityError> {
        let servers = match self.cached(start) {
            Some(servers) => servers,
            None => {
                let servers = authoritative_servers(resolver, &self.policy, start).await?;
                self.cache(start, servers)
            }
        };
        let views = ask_all(resolver, &servers, fqdn, values).await;
        let useful = views
            .iter()
            .any(|view| !matches!(view, ServerView::Unusable(_) | ServerView::Referred(_)));
        if !useful {
            // The cached servers may be outdated.
            self.lock_cache().remove(start);
            if views.iter().any(|view| matches!(view, ServerView::Referred(_))) && start != fqdn {
                return Err(AuthorityError::Referred);
            }
        }
        Ok(evaluate(fqdn, &views, Unusable::IsSkipped))
    }

    /// The addresses of the configured servers, all of which must be asked.
    async fn configured(&self, resolver: &dyn Resolver) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut addresses = Vec::new();
        for server in &self.nameservers {
            match server {
                Nameserver::Address(address) => addresses.push(*address),
                Nameserver::Host { name, port } => {
                    let now = self.clock.now();
                    let lock_cache = lock(&self.hosts).get(server).cloned();
                    if let Some((_, lock_cache)) = lock_cache.filter(|(until, _)| now < *until) {
                        addresses.extend(lock_cache);
                        continue;
                    }
                    let found = resolver.addresses(name, *port).await?;
                    let until = now.saturating_add(CACHE_TTL).unwrap_or(now);
                    lock(&self.hosts).insert(server.clone(), (until, found.clone()));
                    addresses.extend(found);
                }
            }
        }
        Ok(addresses)
    }

    fn cached(&self, start: &DnsName) -> Option<Vec<SocketAddr>> {
        let lock_cache = self.lock_cache();
        let (until, servers) = lock_cache.get(start)?;
        (self.clock.now() < *until).then(|| servers.clone())
    }

    fn cache(&self, start: &DnsName, servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let now = self.clock.now();
        let mut lock_cache = self.lock_cache();
        if lock_cache.len() >= MAX_CACHED_ZONES {
            lock_cache.retain(|_, (until, _)| now < *until);
        }
        if lock_cache.len() < MAX_CACHED_ZONES {
            let until = now.saturating_add(CACHE_TTL).unwrap_or(now);
            lock_cache.insert(start.clone(), (until, servers.clone()));
        }
        servers
    }

    fn lock_cache(&self) -> MutexGuard<'_, ServerCache<DnsName>> {
        lock(&self.lock_cache)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one server has.
enum ServerView {
    Shown {
        authoritative: bool,
    },
    Missing(String),
    /// Down, failing or refusing.
    Unusable(String),
    /// Not authoritative for this name: it delegates the name, or is lame.
    Referred(String),
}

/// How a server without a usable answer counts.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Unusable {
    /// The operator requires this server to have the values.
    Counts,
    /// The CA's resolver will skip it as well.
    IsSkipped,
}

async fn ask_all(
    resolver: &dyn Resolver,
    servers: &[SocketAddr],
    fqdn: &DnsName,
    values: &[String],
) -> Vec<ServerView> {
    join_all(servers.iter().map(async |server| {
        let answer = resolver.query(*server, fqdn, RecordKind::Txt).await;
        view(*server, values, answer)
    }))
    .await
}

fn view(server: SocketAddr, values: &[String], answer: Result<Answer, ResolveError>) -> ServerView {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return ServerView::Unusable(error.to_string()),
    };
    let found: Vec<&str> = answer
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Text(text) => Some(text.as_str()),
            Record::Address(_) | Record::NameServer(_) => None,
        })
        .collect();
    let present = values.iter().filter(|value| found.contains(&value.as_str())).count();
    if present == values.len() {
        ServerView::Shown { authoritative: answer.authoritative }
    } else if found.is_empty() && !answer.authoritative && answer.alias.is_none() {
        ServerView::Referred(format!("name server {server} has no record and is not authoritative"))
    } else if let Some(target) = &answer.alias {
        ServerView::Missing(format!(
            "name server {server} answers with a CNAME to {target}; set followCNAME to have the \
             record published there, or take the CNAME away (one that comes from a wildcard yields \
             to the record)"
        ))
    } else if answer.no_such_name {
        ServerView::Missing(format!("name server {server} answers NXDOMAIN"))
    } else {
        let (of, others) = (values.len(), found.len().saturating_sub(present));
        ServerView::Missing(format!(
            "name server {server} shows {present} of {of} values (and {others} others)"
        ))
    }
}

fn evaluate(fqdn: &DnsName, views: &[ServerView], unusable: Unusable) -> Visibility {
    let mut all_authoritative = true;
    let (mut shown, mut missing, mut useless) = (false, None, None);
    for view in views {
        match view {
            ServerView::Shown { authoritative } => {
                shown = true;
                all_authoritative &= *authoritative;
            }
            ServerView::Missing(why) => missing = missing.or(Some(why)),
            ServerView::Unusable(why) | ServerView::Referred(why) => {
                useless = useless.or(Some(why));
            }
        }
    }
    let against = match unusable {
        Unusable::Counts => missing.or(useless),
        Unusable::IsSkipped if shown => missing,
        Unusable::IsSkipped => missing.or(useless),
    };
    match against {
        Some(why) => not_seen(format!("{fqdn}: {why}")),
        None if shown => Visibility::Seen { authoritative: all_authoritative },
        None => not_seen(format!("{fqdn}: there is no name server to ask")),
    }
}

fn not_seen(why: String) -> Visibility {
    Visibility::NotSeen { why }
}

/// For a whole check: a dead server costs two exchanges, and the others are asked in parallel.
const DEADLINE: Duration = Duration::from_secs(25);
const WAIT_BEHIND_CACHES: SignedDuration = SignedDuration::from_secs(10);
/// Delegations change rarely, and a check without a result clears the entry.
const CACHE_TTL: SignedDuration = SignedDuration::from_mins(5);
const MAX_CACHED_ZONES: usize = 4096;

#[cfg(test)]
mod tests;
