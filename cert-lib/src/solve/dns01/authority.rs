//! Finds the authoritative servers of a name's zone, through recursive resolvers.
//!
//! Answers are untrusted: the number of questions is bounded.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    model::name::DnsName,
    net::{Answer, Record, RecordKind, ResolveError, Resolver, Server, reach::AddressPolicy},
};

/// Why the authoritative servers were not found.
pub(super) enum AuthorityError {
    /// The servers of the parent's zone delegate the name.
    Referred,
    NoResolver,
    Resolver(ResolveError),
    NoZone,
    NoServers(DnsName),
    /// Their addresses are not permitted.
    NotPublic(DnsName),
    /// They were asked, and none gave a usable answer.
    NoAnswer(String),
}

impl AuthorityError {
    /// Whether the zone was found, but none of its servers can be asked.
    pub(super) fn is_unreachable(&self) -> bool {
        match self {
            Self::Referred | Self::NoServers(_) | Self::NotPublic(_) | Self::NoAnswer(_) => true,
            Self::NoResolver | Self::Resolver(_) | Self::NoZone => false,
        }
    }

    pub(super) fn explain(&self, fqdn: &DnsName) -> String {
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
            Self::NotPublic(zone) => format!(
                "{fqdn}: the name servers of zone {zone} have no public address; set \
                 --precheck-nameservers, let the solver check Resolvers, or permit their addresses \
                 by --allowed-private-ranges"
            ),
            Self::NoAnswer(why) => format!("{fqdn}: {why}"),
        }
    }
}

/// The addresses of all servers that are authoritative for a name, found by SOA, NS and address
/// queries. The owner of a zone chooses its name servers, so `policy` decides which addresses are
/// asked.
pub(super) async fn authoritative_servers(
    resolver: &dyn Resolver,
    resolvers: &[Server],
    policy: &AddressPolicy,
    start: &DnsName,
) -> Result<Vec<Server>, AuthorityError> {
    let recurse = async |name: &DnsName, kind| recurse(resolver, resolvers, name, kind).await;
    let zone = zone_of(resolver, resolvers, start).await?;
    let records = recurse(&zone, RecordKind::Ns).await?.records;
    // Sorted, so that the result is deterministic.
    let hosts: BTreeSet<DnsName> = records
        .into_iter()
        .filter_map(|record| match record {
            Record::NameServer(host) => Some(host),
            Record::Address(_) | Record::Text(_) => None,
        })
        .take(MAX_HOSTS)
        .collect();
    let both = hosts.iter().flat_map(|host| [(host, RecordKind::A), (host, RecordKind::Aaaa)]);
    let answers = join_all(both.map(|(host, kind)| recurse(host, kind))).await;
    let found: BTreeSet<IpAddr> = answers
        .into_iter()
        .filter_map(Result::ok)
        .flat_map(|answer| answer.records)
        .filter_map(|record| match record {
            Record::Address(address) => Some(address),
            Record::NameServer(_) | Record::Text(_) => None,
        })
        .take(MAX_FOUND)
        .collect();
    if found.is_empty() {
        return Err(AuthorityError::NoServers(zone));
    }
    let permitted = found.into_iter().filter(|address| policy.permits(*address));
    let server = |address| Server::Address(SocketAddr::new(address, PORT));
    let addresses: Vec<Server> = permitted.take(MAX_ADDRESSES).map(server).collect();
    if addresses.is_empty() { Err(AuthorityError::NotPublic(zone)) } else { Ok(addresses) }
}

/// The zone of `start`. Most resolvers return it at once, in the authority section.
async fn zone_of(
    resolver: &dyn Resolver,
    resolvers: &[Server],
    start: &DnsName,
) -> Result<DnsName, AuthorityError> {
    let mut candidate = Some(start.clone());
    for _ in 0..MAX_LABELS {
        let Some(name) = candidate else { break };
        let zone = recurse(resolver, resolvers, &name, RecordKind::Soa).await?.zone;
        if let Some(zone) = zone.filter(|zone| start.is_within(zone)) {
            return Ok(zone);
        }
        candidate = name.parent();
    }
    Err(AuthorityError::NoZone)
}

/// Asks `resolvers` in order, and the next one when one fails or is slow: a dead first
/// resolver must not use up the deadline of the check.
async fn recurse(
    resolver: &dyn Resolver,
    resolvers: &[Server],
    name: &DnsName,
    kind: RecordKind,
) -> Result<Answer, AuthorityError> {
    let mut astray = AuthorityError::NoResolver;
    for server in resolvers {
        match timeout(RESOLVER_TIMEOUT, resolver.ask(server, name, kind)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => astray = AuthorityError::Resolver(error),
            Err(_) => {
                let reason = format!("nothing within {} s", RESOLVER_TIMEOUT.as_secs());
                let server = server.clone();
                astray = AuthorityError::Resolver(ResolveError::Unreachable { server, reason });
            }
        }
    }
    Err(astray)
}

const PORT: u16 = 53;
/// For one resolver. A late answer is in its cache at the next check.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(3);
/// The root zone has 13 servers, and few zones have more.
const MAX_HOSTS: usize = 16;
const MAX_ADDRESSES: usize = 32;
/// Most addresses that are examined.
const MAX_FOUND: usize = 256;
const MAX_LABELS: usize = 128;
