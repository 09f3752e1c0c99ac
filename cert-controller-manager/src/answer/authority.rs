//! The records of one zone that depend on the configuration only: SOA, NS, and addresses of the name server.

use std::net::IpAddr;

use cert_lib::model::name::DnsName;
use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, NS, SOA},
};

use super::{mailbox::Mailbox, ttl::Ttls};

/// The authority of one zone.
#[derive(Clone, Debug)]
pub struct Authority {
    pub(super) apex: Name,
    pub(super) server: Name,
    mailbox: Name,
    ttls: Ttls,
}

impl Authority {
    /// The authority of the zone `apex`, with defaults for `server` and `mailbox`.
    ///
    /// # Errors
    /// When a default is too long for DNS; the message names the zone.
    pub fn new(
        apex: &DnsName,
        server: Option<&DnsName>,
        mailbox: Option<&Mailbox>,
        ttls: Ttls,
    ) -> Result<Self, String> {
        let name = |text: &str| {
            let name = Name::from_ascii(format!("{text}."));
            name.map_err(|_| format!("{text} is too long: set the name server and the mailbox"))
        };
        Ok(Self {
            apex: name(apex.as_str())?,
            server: match server {
                Some(server) => name(server.as_str())?,
                None => name(&format!("ns.{apex}"))?,
            },
            mailbox: match mailbox {
                Some(mailbox) => mailbox.name().clone(),
                None => name(&format!("hostmaster.{apex}"))?,
            },
            ttls,
        })
    }

    /// The SOA or NS record at the apex, which has the case of the query in `name`.
    pub(super) fn of_apex(&self, name: &Name, kind: RecordType, serial: u32) -> Option<Record> {
        match kind {
            RecordType::SOA => Some(self.soa(name, serial)),
            RecordType::NS => {
                let server = RData::NS(NS(self.server.clone()));
                Some(Record::from_rdata(name.clone(), self.ttls.constant, server))
            }
            _ => None,
        }
    }

    /// The TTL and the last field determine how long absence is cached (RFC 2308 section 5).
    pub(super) fn soa(&self, owner: &Name, serial: u32) -> Record {
        let (refresh, retry, expire) = (3600, 600, 86400);
        let (server, mailbox) = (self.server.clone(), self.mailbox.clone());
        let negative = self.ttls.negative;
        let soa = SOA::new(server, mailbox, serial, refresh, retry, expire, negative);
        Record::from_rdata(owner.clone(), negative, RData::SOA(soa))
    }

    /// The address records of the name server, with the case of the query in `name`.
    pub(super) fn of_server(
        &self,
        name: &Name,
        addresses: &[IpAddr],
        wanted: impl Fn(RecordType) -> bool,
    ) -> Vec<Record> {
        let data = |address: &IpAddr| match address {
            IpAddr::V4(v4) => RData::A(A(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(*v6)),
        };
        addresses
            .iter()
            .map(|address| Record::from_rdata(name.clone(), self.ttls.constant, data(address)))
            .filter(|record| wanted(record.record_type()))
            .collect()
    }
}
