//! The content of our zones, and the answers to queries. Pure.
//!
//! Several entries may have values for one name; all values are served. A name exists if it or a name below
//! it has values (RFC 8020). The negative TTL is short, because a CA may query a name shortly before its
//! values are published.

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
    /// The published sources, by entry.
    sources: HashMap<ObjectKey, Source>,
    /// The entries of each name, in lower case.
    names: HashMap<String, BTreeSet<ObjectKey>>,
    /// The number of names with values below each name.
    above: HashMap<String, usize>,
}

struct Zone {
    apex: Name,
    server: Name,
    mailbox: Name,
}

/// The values of one entry.
#[derive(Clone, Eq, PartialEq)]
pub struct Source {
    /// Name of the records.
    pub name: DnsName,
    /// TXT values, each a record.
    pub values: Vec<String>,
    /// TTL in seconds, at most [`MAX_TTL`].
    pub ttl: u32,
}

/// Does not print the values, which are secret while the order runs.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({}, {} values)", self.name, self.values.len())
    }
}

/// A DNS response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Response code.
    pub code: ResponseCode,
    /// Whether the answer is authoritative.
    pub authoritative: bool,
    /// Answer section.
    pub answers: Vec<Record>,
    /// Authority section.
    pub authority: Vec<Record>,
    /// Additional section.
    pub additional: Vec<Record>,
}

impl Table {
    /// Empty zones. Before [`complete`](Self::complete), no name is reported as absent.
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

    /// Marks the entries as complete, so that other names are absent.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Adds or replaces the values of an entry.
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

    /// Removes the values of an entry.
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

    /// The published entries.
    #[must_use]
    pub fn keys(&self) -> Vec<ObjectKey> {
        self.sources.keys().cloned().collect()
    }

    /// The answer to a query of class IN. The records have the name in the case of the query, because
    /// resolvers verify it.
    #[must_use]
    pub fn answer(&self, name: &Name, kind: RecordType) -> Reply {
        // The longest match, because zones may be nested.
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
            // The values may not have been read yet, and resolvers would cache a wrong NXDOMAIN.
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
        // All records of a name have one TTL (RFC 2181 section 5.2). Duplicate values are removed.
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
    /// A zone with the name server `ns.<apex>`; `None` if that name is too long.
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

    /// The TTL and the last field determine how long absence is cached (RFC 2308 section 5).
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

/// The TXT data of a value, split into strings of valid length.
fn text(value: &str) -> RData {
    let strings = value.as_bytes().chunks(MAX_STRING).collect();
    RData::TXT(TXT::from_bytes(strings))
}

/// The key of a name from a query. A dot inside a label is escaped, so it matches no published name.
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

/// Maximum TTL of values, because the next order has other values.
pub const MAX_TTL: u32 = 10;
/// TTL of negative answers.
const NEGATIVE_TTL: u32 = 5;
/// TTL of constant records.
const ZONE_TTL: u32 = 300;
/// RFC 1035 section 3.3
const MAX_STRING: usize = 255;

#[cfg(test)]
mod tests;
