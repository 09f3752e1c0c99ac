//! DNS-01: the look at whether everybody who asks will see the values of a challenge name.
//!
//! Asks through a [`Resolver`]: every authoritative server of the name's zone, or the name servers
//! that the operator gave in their place. Keeps the addresses of a zone's servers for some minutes.
//!
//! Not here: publishing, and waiting. What [`Propagation::look`] says is true for this moment; who
//! waits on top remembers when it was first [`Sight::Seen`].

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

/// Looks whether TXT values have reached the servers that the CA will ask.
pub struct Propagation {
    nameservers: Vec<Nameserver>,
    /// Where servers may be that a zone names.
    policy: Arc<AddressPolicy>,
    clock: Arc<dyn Clock>,
    /// Zone's servers by the name that the walk began at, and until when they are believed.
    known: Mutex<ServerCache<DnsName>>,
    /// The same for configured servers that are hosts.
    hosts: Mutex<ServerCache<Nameserver>>,
}

/// Addresses, and until when they are believed.
type ServerCache<K> = HashMap<K, (Timestamp, Vec<SocketAddr>)>;

/// What one look showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// Every server that matters has all values.
    Seen {
        /// All of those servers are authoritative for the name (AA bit), so no cache stands between.
        authoritative: bool,
    },
    /// At least one server that matters has not. Never names a value.
    NotSeen {
        /// In words for a person, naming the server.
        why: String,
    },
}

/// How long to wait after the first sight: what is configured, or nothing when authoritative
/// servers were asked, or long enough for caches and their siblings when they were not.
#[must_use]
pub fn additional_wait(configured: Option<SignedDuration>, authoritative: bool) -> SignedDuration {
    match (configured, authoritative) {
        (Some(wait), _) => wait,
        (None, true) => SignedDuration::ZERO,
        (None, false) => WAIT_BEHIND_CACHES,
    }
}

impl Propagation {
    /// Looks at `nameservers`, all of which must show the values; at the authoritative servers of
    /// the zone when there are none.
    #[must_use]
    pub fn new(nameservers: Vec<Nameserver>, clock: Arc<dyn Clock>) -> Self {
        Self {
            nameservers,
            policy: Arc::default(),
            clock,
            known: Mutex::default(),
            hosts: Mutex::default(),
        }
    }

    /// Asks servers that a zone names where `policy` permits it, which by default is at public
    /// addresses. The name servers of [`new`](Self::new) are the operator's and may be anywhere.
    #[must_use]
    pub fn within(self, policy: Arc<AddressPolicy>) -> Self {
        Self { policy, ..self }
    }

    /// Looks once whether all `values` are records of `fqdn`. Other records beside them are fine:
    /// somebody else may prove the same name.
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
            return judge(fqdn, &views, Unusable::Counts);
        }
        // From the parent, because a question for the challenge name itself would leave its absence
        // in the cache of the machine's resolver, which may be the one that the CA asks.
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
        let servers = match self.recall(start) {
            Some(servers) => servers,
            None => {
                let servers = authoritative_servers(resolver, &self.policy, start).await?;
                self.remember(start, servers)
            }
        };
        let views = ask_all(resolver, &servers, fqdn, values).await;
        let useful =
            views.iter().any(|view| !matches!(view, View::Unusable(_) | View::Referred(_)));
        if !useful {
            // What was remembered may be out of date.
            self.known().remove(start);
            if views.iter().any(|view| matches!(view, View::Referred(_))) && start != fqdn {
                return Err(AuthorityError::Referred);
            }
        }
        Ok(judge(fqdn, &views, Unusable::IsSkipped))
    }

    /// The addresses of the configured servers, all of which the operator wants to be asked.
    async fn configured(&self, resolver: &dyn Resolver) -> Result<Vec<SocketAddr>, ResolveError> {
        let mut addresses = Vec::new();
        for server in &self.nameservers {
            match server {
                Nameserver::Address(address) => addresses.push(*address),
                Nameserver::Host { name, port } => {
                    let now = self.clock.now();
                    let known = lock(&self.hosts).get(server).cloned();
                    if let Some((_, known)) = known.filter(|(until, _)| now < *until) {
                        addresses.extend(known);
                        continue;
                    }
                    let found = resolver.addresses(name, *port).await?;
                    let until = now.saturating_add(KNOWN_FOR).unwrap_or(now);
                    lock(&self.hosts).insert(server.clone(), (until, found.clone()));
                    addresses.extend(found);
                }
            }
        }
        Ok(addresses)
    }

    fn recall(&self, start: &DnsName) -> Option<Vec<SocketAddr>> {
        let known = self.known();
        let (until, servers) = known.get(start)?;
        (self.clock.now() < *until).then(|| servers.clone())
    }

    fn remember(&self, start: &DnsName, servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let now = self.clock.now();
        let mut known = self.known();
        if known.len() >= MAX_KNOWN {
            known.retain(|_, (until, _)| now < *until);
        }
        if known.len() < MAX_KNOWN {
            let until = now.saturating_add(KNOWN_FOR).unwrap_or(now);
            known.insert(start.clone(), (until, servers.clone()));
        }
        servers
    }

    fn known(&self) -> MutexGuard<'_, ServerCache<DnsName>> {
        lock(&self.known)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one server shows.
enum View {
    Shown {
        authoritative: bool,
    },
    Missing(String),
    /// Down, failing or refusing.
    Unusable(String),
    /// It answers, but neither for this name nor with authority: it delegates the name, or is lame.
    Referred(String),
}

/// What a server that gives no usable answer means for the whole.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Unusable {
    /// The operator wants this server to show the values.
    Counts,
    /// The CA's resolver will pass it over as well.
    IsSkipped,
}

async fn ask_all(
    resolver: &dyn Resolver,
    servers: &[SocketAddr],
    fqdn: &DnsName,
    values: &[String],
) -> Vec<View> {
    join_all(servers.iter().map(async |server| {
        let answer = resolver.query(*server, fqdn, RecordKind::Txt).await;
        view(*server, values, answer)
    }))
    .await
}

fn view(server: SocketAddr, values: &[String], answer: Result<Answer, ResolveError>) -> View {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return View::Unusable(error.to_string()),
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
        View::Shown { authoritative: answer.authoritative }
    } else if found.is_empty() && !answer.authoritative && answer.alias.is_none() {
        View::Referred(format!("name server {server} has no record and no authority"))
    } else if let Some(target) = &answer.alias {
        View::Missing(format!(
            "name server {server} answers with a CNAME to {target}; set followCNAME to have the \
             record published there, or take the CNAME away (one that comes from a wildcard yields \
             to the record)"
        ))
    } else if answer.no_such_name {
        View::Missing(format!("name server {server} knows no such name"))
    } else {
        let (of, others) = (values.len(), found.len().saturating_sub(present));
        View::Missing(format!(
            "name server {server} shows {present} of {of} values (and {others} others)"
        ))
    }
}

fn judge(fqdn: &DnsName, views: &[View], unusable: Unusable) -> Visibility {
    let mut all_authoritative = true;
    let (mut shown, mut missing, mut useless) = (false, None, None);
    for view in views {
        match view {
            View::Shown { authoritative } => {
                shown = true;
                all_authoritative &= *authoritative;
            }
            View::Missing(why) => missing = missing.or(Some(why)),
            View::Unusable(why) | View::Referred(why) => useless = useless.or(Some(why)),
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

/// For a whole look: a dead server costs two exchanges, and its siblings are asked meanwhile.
const DEADLINE: Duration = Duration::from_secs(25);
const WAIT_BEHIND_CACHES: SignedDuration = SignedDuration::from_secs(10);
/// Delegations change rarely, and a look that finds nobody forgets what it knew.
const KNOWN_FOR: SignedDuration = SignedDuration::from_mins(5);
const MAX_KNOWN: usize = 4096;

#[cfg(test)]
mod tests;
