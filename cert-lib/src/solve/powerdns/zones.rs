//! The zone of a name, and a cache of the zones that were found.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::{SignedDuration, Timestamp};

use super::{api::Api, wire::ZoneInfo};
use crate::{model::name::DnsName, solve::SolveError};

/// A zone that the server changes.
#[derive(Debug)]
pub(super) struct Zone {
    pub(super) name: DnsName,
    is_large: AtomicBool,
}

impl Zone {
    /// Whether it is better not to list the zone.
    pub(super) fn is_large(&self) -> bool {
        self.is_large.load(Ordering::Relaxed)
    }

    /// Remembers that an answer with the whole zone has this size, or is too large.
    pub(super) fn measured(&self, bytes: Option<usize>) {
        self.is_large.store(bytes.is_none_or(|bytes| bytes > LARGE), Ordering::Relaxed);
    }
}

/// Zones by the names that are in them, and when they expire. Missing zones are not cached: a user
/// who creates one does not want to wait.
#[derive(Debug, Default)]
pub(super) struct Zones(Mutex<HashMap<DnsName, (Timestamp, Arc<Zone>)>>);

impl Zones {
    /// The zone of `fqdn`: `configured`, or the longest that the server has. Asks for one zone at a
    /// time, because the list of a large server is too long.
    pub(super) async fn find(
        &self,
        fqdn: &DnsName,
        configured: Option<&DnsName>,
        api: &Api,
        now: Timestamp,
    ) -> Result<Arc<Zone>, SolveError> {
        let key = configured.unwrap_or(fqdn);
        if let Some(zone) = self.cached(key, now) {
            return Ok(zone);
        }
        let mut candidate = Some(key.clone());
        while let Some(name) = candidate {
            if let Some(info) = api.zone(&name).await? {
                check_kind(&info, &name, &api.server().url)?;
                return Ok(self.keep(key, name, now));
            }
            candidate = if configured.is_some() { None } else { name.parent() };
        }
        Err(missing(fqdn, configured, &api.server().url))
    }

    /// Forgets `zone` after a failure: it may be gone or have another kind.
    pub(super) fn forget(&self, zone: &Zone) {
        self.lock().retain(|_, (_, known)| known.name != zone.name);
    }

    fn cached(&self, key: &DnsName, now: Timestamp) -> Option<Arc<Zone>> {
        let cache = self.lock();
        let (expiry, zone) = cache.get(key)?;
        (now < *expiry).then(|| Arc::clone(zone))
    }

    fn keep(&self, key: &DnsName, name: DnsName, now: Timestamp) -> Arc<Zone> {
        let mut cache = self.lock();
        if cache.len() >= MAX_CACHED {
            cache.retain(|_, (expiry, _)| now < *expiry);
        }
        if cache.len() >= MAX_CACHED {
            cache.clear();
        }
        let known = cache.values().find(|(_, zone)| zone.name == name);
        let zone = known.map_or_else(
            || Arc::new(Zone { name, is_large: AtomicBool::new(false) }),
            |(_, zone)| Arc::clone(zone),
        );
        let expiry = now.saturating_add(LIFETIME).unwrap_or(now);
        cache.insert(key.clone(), (expiry, Arc::clone(&zone)));
        zone
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DnsName, (Timestamp, Arc<Zone>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// PowerDNS 4.7 accepts changes of a copied zone, which the next transfer removes.
fn check_kind(zone: &ZoneInfo, name: &DnsName, url: &str) -> Result<(), SolveError> {
    if WRITABLE.iter().any(|kind| zone.kind.eq_ignore_ascii_case(kind)) {
        return Ok(());
    }
    let kind: String = zone.kind.chars().take(MAX_KIND).collect();
    Err(SolveError::Misconfigured(format!(
        "zone {name} of PowerDNS {url} is read-only: its kind is {kind:?}, so its records come from \
         another server; set url to the primary server of the zone"
    )))
}

fn missing(fqdn: &DnsName, configured: Option<&DnsName>, url: &str) -> SolveError {
    SolveError::Misconfigured(match configured {
        Some(zone) => {
            format!("PowerDNS {url} has no zone {zone}: create it, or change zone of the solver")
        }
        None => format!(
            "PowerDNS {url} has no zone that contains {fqdn}: create it, or select another solver for \
             this name"
        ),
    })
}

/// The kinds of zones with records of this server, in old and new words of PowerDNS.
const WRITABLE: [&str; 4] = ["native", "master", "primary", "producer"];
/// Longest quotation of a kind, in characters.
const MAX_KIND: usize = 20;
/// How long a zone is used without a check.
const LIFETIME: SignedDuration = SignedDuration::from_mins(5);
const MAX_CACHED: usize = 1000;
/// Above this size, reading single record sets is cheaper than listing the zone.
const LARGE: usize = 128 * 1024;
