//! DNS-01: the look at whether everybody who asks will see the values of a challenge name.
//!
//! Asks through a [`Resolver`]: every authoritative server of the name's zone, or the name servers
//! that the operator gave in their place. Keeps the addresses of a zone's servers for some minutes.
//!
//! Not here: publishing, and waiting. What [`Propagation::look`] says is true for this moment; who
//! waits on top remembers when it was first [`Sight::Seen`].

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use crate::{
    clock::Clock,
    model::name::{DnsName, NameError},
    net::{Answer, Record, RecordKind, ResolveError, Resolver},
};

/// Looks whether TXT values have reached the servers that the CA will ask.
pub struct Propagation {
    nameservers: Vec<SocketAddr>,
    clock: Arc<dyn Clock>,
    /// Zone's servers by the name that the walk began at, and until when they are believed.
    known: Mutex<HashMap<DnsName, (Timestamp, Vec<SocketAddr>)>>,
}

/// What one look showed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Sight {
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
    pub fn new(nameservers: Vec<SocketAddr>, clock: Arc<dyn Clock>) -> Self {
        Self { nameservers, clock, known: Mutex::default() }
    }

    /// Looks once whether all `values` are records of `fqdn`. Other records beside them are fine:
    /// somebody else may prove the same name.
    pub async fn look(&self, resolver: &dyn Resolver, fqdn: &DnsName, values: &[String]) -> Sight {
        let look = self.look_without_deadline(resolver, fqdn, values);
        timeout(DEADLINE, look).await.unwrap_or_else(|_| {
            not_seen(format!("looking for {fqdn} took longer than {} s", DEADLINE.as_secs()))
        })
    }

    async fn look_without_deadline(
        &self,
        resolver: &dyn Resolver,
        fqdn: &DnsName,
        values: &[String],
    ) -> Sight {
        if !self.nameservers.is_empty() {
            let views = ask_all(resolver, &self.nameservers, fqdn, values).await;
            return judge(fqdn, &views, Unusable::Counts);
        }
        // From the parent, because a question for the challenge name itself would leave its absence
        // in the cache of the machine's resolver, which may be the one that the CA asks.
        let parent = fqdn.parent().unwrap_or_else(|| fqdn.clone());
        let sight = self.look_from(resolver, &parent, fqdn, values).await;
        if matches!(sight, Err(Astray::Referred)) {
            // The challenge name is a zone of its own, so it exists.
            return self
                .look_from(resolver, fqdn, fqdn, values)
                .await
                .unwrap_or_else(|astray| not_seen(astray.explain(fqdn)));
        }
        sight.unwrap_or_else(|astray| not_seen(astray.explain(fqdn)))
    }

    async fn look_from(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
        fqdn: &DnsName,
        values: &[String],
    ) -> Result<Sight, Astray> {
        let servers = match self.recall(start) {
            Some(servers) => servers,
            None => self.remember(start, authoritative_servers(resolver, start).await?),
        };
        let views = ask_all(resolver, &servers, fqdn, values).await;
        let useful =
            views.iter().any(|view| !matches!(view, View::Unusable(_) | View::Referred(_)));
        if !useful {
            // What was remembered may be out of date.
            self.known().remove(start);
            if views.iter().any(|view| matches!(view, View::Referred(_))) && start != fqdn {
                return Err(Astray::Referred);
            }
        }
        Ok(judge(fqdn, &views, Unusable::IsSkipped))
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

    fn known(&self) -> MutexGuard<'_, HashMap<DnsName, (Timestamp, Vec<SocketAddr>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    } else if found.is_empty() && !answer.authoritative {
        View::Referred(format!("name server {server} has no record and no authority"))
    } else if answer.no_such_name {
        View::Missing(format!("name server {server} knows no such name"))
    } else {
        let (of, others) = (values.len(), found.len().saturating_sub(present));
        View::Missing(format!(
            "name server {server} shows {present} of {of} values (and {others} others)"
        ))
    }
}

fn judge(fqdn: &DnsName, views: &[View], unusable: Unusable) -> Sight {
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
        None if shown => Sight::Seen { authoritative: all_authoritative },
        None => not_seen(format!("{fqdn}: there is no name server to ask")),
    }
}

fn not_seen(why: String) -> Sight {
    Sight::NotSeen { why }
}

/// Why the walk to the authoritative servers led nowhere.
enum Astray {
    /// The servers of the parent's zone delegate the name.
    Referred,
    NoResolver,
    Resolver(ResolveError),
    NoZone,
    NoServers(DnsName),
}

impl Astray {
    fn explain(&self, fqdn: &DnsName) -> String {
        match self {
            Self::Referred => format!("{fqdn} is delegated to servers that cannot be found"),
            Self::NoResolver => format!(
                "{fqdn}: /etc/resolv.conf names no server to find the zone with; set \
                 --precheck-nameservers"
            ),
            Self::Resolver(error) => format!("cannot find the zone of {fqdn}: {error}"),
            Self::NoZone => format!("cannot find the zone of {fqdn}: no SOA record"),
            Self::NoServers(zone) => {
                format!("{fqdn}: the name servers of zone {zone} have no address")
            }
        }
    }
}

/// SOA, NS and addresses: from any name in a zone to everybody who answers for it.
async fn authoritative_servers(
    resolver: &dyn Resolver,
    start: &DnsName,
) -> Result<Vec<SocketAddr>, Astray> {
    let zone = zone_of(resolver, start).await?;
    let records = recurse(resolver, &zone, RecordKind::Ns).await?.records;
    // A set, and so sorted: the same question always has the same answer.
    let hosts: BTreeSet<DnsName> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::NameServer(host) => Some(host),
            Record::Address(_) | Record::Text(_) => None,
        })
        .take(MAX_HOSTS)
        .collect();
    let both = hosts.iter().flat_map(|host| [(host, RecordKind::A), (host, RecordKind::Aaaa)]);
    let answers = join_all(both.map(|(host, kind)| recurse(resolver, host, kind))).await;
    let addresses: BTreeSet<IpAddr> = answers
        .into_iter()
        .filter_map(Result::ok)
        .flat_map(|answer| answer.records)
        .filter_map(|record| match record {
            Record::Address(address) => Some(address),
            Record::NameServer(_) | Record::Text(_) => None,
        })
        .take(MAX_ADDRESSES)
        .collect();
    if addresses.is_empty() {
        return Err(Astray::NoServers(zone));
    }
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, PORT)).collect())
}

/// The zone that `start` lies in. A resolver mostly says it at once, in the authority section.
async fn zone_of(resolver: &dyn Resolver, start: &DnsName) -> Result<DnsName, Astray> {
    let mut candidate = Some(start.clone());
    for _ in 0..MAX_LABELS {
        let Some(name) = candidate else { break };
        let zone = recurse(resolver, &name, RecordKind::Soa).await?.zone;
        if let Some(zone) = zone.filter(|zone| start.is_within(zone)) {
            return Ok(zone);
        }
        candidate = name.parent();
    }
    Err(Astray::NoZone)
}

/// Asks the machine's resolvers, the next one when one fails.
async fn recurse(
    resolver: &dyn Resolver,
    name: &DnsName,
    kind: RecordKind,
) -> Result<Answer, Astray> {
    let mut astray = Astray::NoResolver;
    for server in resolver.system_servers() {
        match resolver.query(server, name, kind).await {
            Ok(answer) => return Ok(answer),
            Err(error) => astray = Astray::Resolver(error),
        }
    }
    Err(astray)
}

/// A name server as a person writes it: `host`, `host:port`, an address, `address:port`,
/// `[v6]:port`. The port is 53 when none is given.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Nameserver {
    /// Ready to ask.
    Address(SocketAddr),
    /// To be resolved by whoever reads the configuration.
    Host {
        /// Name of the server.
        name: DnsName,
        /// Port that it listens on.
        port: u16,
    },
}

/// Why a text is no name server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no name server; write host, host:port, an address or [v6 address]:port")]
pub struct NameserverError {
    /// What was given.
    pub text: String,
    /// What is wrong with the host name.
    #[source]
    pub source: Option<NameError>,
}

impl FromStr for Nameserver {
    type Err = NameserverError;

    fn from_str(text: &str) -> Result<Self, NameserverError> {
        let refused = |source| NameserverError { text: text.to_owned(), source };
        let text = text.trim();
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(SocketAddr::new(address, PORT)));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(refused(None)),
                _ => Ok(Self::Address(address)),
            };
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (text, Some(PORT)),
        };
        let port = port.ok_or_else(|| refused(None))?;
        let name: DnsName = host.parse().map_err(|e| refused(Some(e)))?;
        if name.is_wildcard() {
            return Err(refused(None));
        }
        Ok(Self::Host { name, port })
    }
}

const PORT: u16 = 53;
/// For a whole look: a dead server costs two exchanges, and its siblings are asked meanwhile.
const DEADLINE: Duration = Duration::from_secs(25);
const WAIT_BEHIND_CACHES: SignedDuration = SignedDuration::from_secs(10);
/// Delegations change rarely, and a look that finds nobody forgets what it knew.
const KNOWN_FOR: SignedDuration = SignedDuration::from_mins(5);
const MAX_KNOWN: usize = 4096;
/// The root zone has 13 servers, and few zones have more.
const MAX_HOSTS: usize = 16;
const MAX_ADDRESSES: usize = 32;
const MAX_LABELS: usize = 128;

#[cfg(test)]
#[path = "dns01/tests.rs"]
mod tests;
