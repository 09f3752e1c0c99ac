//! What is in our zones, and the answer to each question. Pure.
//!
//! Several sources may give values for one name; all are served. A name below the apex exists when
//! it has values or something below it has (RFC 8020). Absence is told with a short negative TTL,
//! because a CA may ask a moment before the values are here.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::IpAddr,
};

use cert_lib::model::name::DnsName;
use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, NS, SOA, TXT},
    },
};

use crate::api::ObjectKey;

/// The zones and their values.
pub struct Table {
    zones: Vec<Zone>,
    addresses: Vec<IpAddr>,
    serial: u32,
    complete: bool,
    /// What each source gives, to find it again when it changes.
    sources: HashMap<ObjectKey, Source>,
    /// The sources of each name, by its lower-case text.
    names: HashMap<String, BTreeSet<ObjectKey>>,
    /// How many names are below each name that may have none itself.
    above: HashMap<String, usize>,
}

struct Zone {
    apex: Name,
    server: Name,
    mailbox: Name,
}

/// What one source publishes.
#[derive(Clone, Eq, PartialEq)]
pub struct Source {
    /// The name that has the values.
    pub name: DnsName,
    /// One record for each.
    pub values: Vec<String>,
    /// How long resolvers may keep them, in seconds; [`MAX_TTL`] at most.
    pub ttl: u32,
}

/// Values are secret while their order runs.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} values)", self.name, self.values.len())
    }
}

/// The parts of a response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The response code.
    pub code: ResponseCode,
    /// Whether we are the authority for the name.
    pub authoritative: bool,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section.
    pub authority: Vec<Record>,
    /// The additional section.
    pub additional: Vec<Record>,
}

impl Table {
    /// Empty zones. Until [`complete`](Self::complete) nothing is said about what does not exist.
    #[must_use]
    pub fn new(zones: &[DnsName], addresses: &[IpAddr], serial: u32) -> Self {
        Self {
            zones: zones.iter().filter_map(Zone::new).collect(),
            addresses: addresses.to_vec(),
            serial,
            complete: false,
            sources: HashMap::new(),
            names: HashMap::new(),
            above: HashMap::new(),
        }
    }

    /// All sources are known: what is not here does not exist.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Publishes what `source` gives, in the place of what `key` gave before.
    pub fn put(&mut self, key: &ObjectKey, source: Source) {
        if self.sources.get(key) == Some(&source) {
            return;
        }
        self.remove(key);
        self.serial = self.serial.wrapping_add(1);
        let name = source.name.as_str().to_owned();
        let keys = self.names.entry(name).or_default();
        if keys.is_empty() {
            for parent in parents(&source.name) {
                *self.above.entry(parent).or_default() += 1;
            }
        }
        keys.insert(key.clone());
        self.sources.insert(key.clone(), source);
    }

    /// Takes away what `key` gave.
    pub fn remove(&mut self, key: &ObjectKey) {
        let Some(source) = self.sources.remove(key) else { return };
        self.serial = self.serial.wrapping_add(1);
        let Some(keys) = self.names.get_mut(source.name.as_str()) else { return };
        keys.remove(key);
        if !keys.is_empty() {
            return;
        }
        self.names.remove(source.name.as_str());
        for parent in parents(&source.name) {
            if let Some(count) = self.above.get_mut(&parent) {
                *count -= 1;
                if *count == 0 {
                    self.above.remove(&parent);
                }
            }
        }
    }

    /// Everybody who gives something.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.sources.keys().cloned().collect()
    }

    /// The answer to a question of class IN. The owner of every answer is `name` as it was asked,
    /// because resolvers check its letter case.
    #[must_use]
    pub fn answer(&self, name: &Name, kind: RecordType) -> Reply {
        // The longest apex, where one zone lies in another.
        let within = self.zones.iter().filter(|zone| zone.apex.zone_of(name));
        let Some(zone) = within.max_by_key(|zone| zone.apex.num_labels()) else {
            return Reply::bare(ResponseCode::Refused, false);
        };
        let mut answers = self.texts(name, kind);
        if *name == zone.apex {
            answers.extend(zone.of_apex(name, kind, self.serial));
        }
        if *name == zone.server {
            answers.extend(self.of_server(name, kind));
        }
        if !answers.is_empty() {
            let names_server = answers.iter().any(|record| record.record_type() == RecordType::NS);
            let additional =
                if names_server { self.of_server(&zone.server, RecordType::ANY) } else { vec![] };
            return Reply { answers, additional, ..Reply::bare(ResponseCode::NoError, true) };
        }
        let code = match (self.exists(zone, name), self.complete) {
            (true, _) => ResponseCode::NoError,
            (false, true) => ResponseCode::NXDomain,
            // The values may be there and not yet read: a wrong "no" would be remembered.
            (false, false) => return Reply::bare(ResponseCode::ServFail, false),
        };
        let authority = vec![zone.soa(&zone.apex, self.serial)];
        Reply { authority, ..Reply::bare(code, true) }
    }

    fn texts(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        if !matches!(kind, RecordType::TXT | RecordType::ANY) {
            return vec![];
        }
        let keys = self.names.get(&key_of(name)).into_iter().flatten();
        let sources: Vec<&Source> = keys.filter_map(|key| self.sources.get(key)).collect();
        // One TTL for all records of the name (RFC 2181 section 5.2), and no value twice.
        let ttl = sources.iter().map(|source| source.ttl).min().unwrap_or(MAX_TTL).min(MAX_TTL);
        let values: BTreeSet<&String> = sources.iter().flat_map(|s| &s.values).collect();
        let record = |value: &String| Record::from_rdata(name.clone(), ttl, text(value));
        values.into_iter().map(record).collect()
    }

    fn of_server(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let data = |address: &IpAddr| match address {
            IpAddr::V4(v4) => RData::A(A(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
        };
        self.addresses
            .iter()
            .map(|address| Record::from_rdata(name.clone(), ZONE_TTL, data(address)))
            .filter(|record| matches!(kind, RecordType::ANY) || record.record_type() == kind)
            .collect()
    }

    fn exists(&self, zone: &Zone, name: &Name) -> bool {
        let key = key_of(name);
        *name == zone.apex
            || *name == zone.server
            || self.names.contains_key(&key)
            || self.above.contains_key(&key)
    }
}

impl Zone {
    /// A zone with the name server `ns.` in it. A name that is too long for that is no zone.
    fn new(apex: &DnsName) -> Option<Self> {
        let below = |label: &str| Name::from_ascii(format!("{label}{apex}.")).ok();
        Some(Self { apex: below("")?, server: below("ns.")?, mailbox: below("hostmaster.")? })
    }

    fn of_apex(&self, name: &Name, kind: RecordType, serial: u32) -> Option<Record> {
        match kind {
            RecordType::SOA | RecordType::ANY => Some(self.soa(name, serial)),
            RecordType::NS => {
                let server = RData::NS(NS(self.server.clone()));
                Some(Record::from_rdata(name.clone(), ZONE_TTL, server))
            }
            _ => None,
        }
    }

    /// Its TTL and its last field are both the time for which absence is remembered
    /// (RFC 2308 section 5).
    fn soa(&self, owner: &Name, serial: u32) -> Record {
        let (refresh, retry, expire) = (3600, 600, 86400);
        let soa = SOA::new(
            self.server.clone(),
            self.mailbox.clone(),
            serial,
            refresh,
            retry,
            expire,
            NEGATIVE_TTL,
        );
        Record::from_rdata(owner.clone(), NEGATIVE_TTL, RData::SOA(soa))
    }
}

impl Reply {
    fn bare(code: ResponseCode, authoritative: bool) -> Self {
        let (answers, authority, additional) = (vec![], vec![], vec![]);
        Self { code, authoritative, answers, authority, additional }
    }
}

/// A record of one value, in strings of the length that one string may have.
fn text(value: &str) -> RData {
    let strings = value.as_bytes().chunks(MAX_STRING).collect();
    RData::TXT(TXT::from_bytes(strings))
}

/// The text by which a name on the wire is looked up. A dot inside a label comes out escaped, and
/// so matches no name of ours.
fn key_of(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

fn parents(name: &DnsName) -> impl Iterator<Item = String> {
    std::iter::successors(name.parent(), DnsName::parent).map(String::from)
}

/// The longest that a resolver may keep a value: the next order has others.
pub const MAX_TTL: u32 = 10;
/// How long absence is remembered.
const NEGATIVE_TTL: u32 = 5;
/// For what does not change while the process runs.
const ZONE_TTL: u32 = 300;
/// RFC 1035 section 3.3
const MAX_STRING: usize = 255;

#[cfg(test)]
mod tests;
