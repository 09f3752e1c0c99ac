//! The content of our zones, and the answers to queries. Pure.
//!
//! Several objects may publish values for one name; all values are served. A name exists if it or a name
//! below it has records (RFC 8020). The negative TTL is short, because a CA may query a name shortly before
//! its values are published.

use std::net::IpAddr;

use hickory_proto::{
    op::ResponseCode,
    rr::{
        Name, RData, Record, RecordType,
        rdata::{HINFO, TXT},
    },
};

use super::{
    authority::Authority,
    options::ZoneOptions,
    records::{Origin, RecordKey, Records, Source},
    ttl::Ttls,
};
use crate::api::ObjectKey;

/// The zones and their values.
pub struct Table {
    zones: Vec<Authority>,
    addresses: Vec<IpAddr>,
    ttls: Ttls,
    serial: u32,
    /// The origins that are not listed yet.
    missing: Vec<Origin>,
    records: Records,
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
    /// Empty zones whose values come from `origins`. Until all of them are [complete](Self::complete), no
    /// name is reported as absent. A zone with an invalid default name is left out, which the flags exclude.
    #[must_use]
    pub fn new(options: &ZoneOptions, origins: &[Origin], serial: u32) -> Self {
        Self {
            zones: options.zones.iter().filter_map(|it| options.authority(it).ok()).collect(),
            addresses: options.addresses.clone(),
            ttls: options.ttls(),
            serial,
            missing: origins.to_vec(),
            records: Records::default(),
        }
    }

    /// Marks an origin as listed.
    pub fn complete(&mut self, origin: Origin) {
        self.missing.retain(|other| *other != origin);
    }

    /// Whether all origins are listed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// Adds or replaces all values of an object.
    pub fn put(&mut self, key: &RecordKey, sources: Vec<Source>) {
        if self.records.put(key, sources) {
            self.serial = self.serial.wrapping_add(1);
        }
    }

    /// Removes all values of an object.
    pub fn remove(&mut self, key: &RecordKey) {
        if self.records.remove(key) {
            self.serial = self.serial.wrapping_add(1);
        }
    }

    /// The objects of an origin that publish values.
    #[must_use]
    pub fn keys(&self, origin: Origin) -> Vec<ObjectKey> {
        self.records.keys(origin)
    }

    /// The answer to a query of class IN. The records have the name in the case of the query, because
    /// resolvers verify it.
    #[must_use]
    pub fn answer(&self, name: &Name, kind: RecordType) -> Reply {
        let Some(zone) = self.zone_of(name) else {
            return Reply::bare(ResponseCode::Refused, false);
        };
        let key = key_of(name);
        let mut answers = match kind {
            RecordType::TXT => self.texts(name, &key),
            RecordType::ANY if self.exists(name, &key) => vec![self.any(name)],
            _ => vec![],
        };
        if *name == zone.apex {
            answers.extend(zone.of_apex(name, kind, self.serial));
        }
        if *name == zone.server {
            answers.extend(zone.of_server(name, &self.addresses, |it| it == kind));
        }
        if !answers.is_empty() {
            let additional = self.additional(zone, kind);
            return Reply { answers, additional, ..Reply::bare(ResponseCode::NoError, true) };
        }
        let code = match (self.exists(name, &key), self.is_complete()) {
            (true, _) => ResponseCode::NoError,
            (false, true) => ResponseCode::NXDomain,
            // The values may not have been read yet, and resolvers would cache a wrong NXDOMAIN.
            (false, false) => return Reply::bare(ResponseCode::ServFail, false),
        };
        let authority = vec![zone.soa(&zone.apex, self.serial)];
        Reply { authority, ..Reply::bare(code, true) }
    }

    /// The longest match, because zones may be nested.
    fn zone_of(&self, name: &Name) -> Option<&Authority> {
        let within = self.zones.iter().filter(|zone| zone.apex.zone_of(name));
        within.max_by_key(|zone| zone.apex.num_labels())
    }

    fn texts(&self, name: &Name, key: &str) -> Vec<Record> {
        let Some((values, ttl)) = self.records.at(key) else { return vec![] };
        let ttl = ttl.min(self.ttls.value);
        let record = |value: &str| Record::from_rdata(name.clone(), ttl, text(value));
        values.into_iter().map(record).collect()
    }

    /// The minimal answer of RFC 8482 section 4.2, which is useless for amplification attacks.
    fn any(&self, name: &Name) -> Record {
        let data = RData::HINFO(HINFO::new("RFC8482".to_owned(), String::new()));
        Record::from_rdata(name.clone(), self.ttls.constant, data)
    }

    /// The addresses of the name server after its name, if it is ours.
    fn additional(&self, zone: &Authority, kind: RecordType) -> Vec<Record> {
        if kind == RecordType::NS && self.zone_of(&zone.server).is_some() {
            return zone.of_server(&zone.server, &self.addresses, |_| true);
        }
        vec![]
    }

    fn exists(&self, name: &Name, key: &str) -> bool {
        let below = |zone: &Authority| name.zone_of(&zone.apex) || name.zone_of(&zone.server);
        self.records.exists(key) || self.zones.iter().any(below)
    }
}

impl Reply {
    pub(super) fn bare(code: ResponseCode, authoritative: bool) -> Self {
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

/// RFC 1035 section 3.3
const MAX_STRING: usize = 255;

#[cfg(test)]
mod tests;
