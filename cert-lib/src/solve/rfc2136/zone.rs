//! Finds the zone of a name, and the lifetime of its records, by questions to the name server that
//! will be updated. No other server is asked: in a private network, others have other zones.

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RecordType},
};

use super::{
    failure::{Attempt, Trust},
    message::question,
    transport::{Link, Reply},
};
use crate::{model::name::DnsName, solve::SolveError};

/// The zone of `fqdn`: the longest one that the server is authoritative for.
pub(super) async fn find(link: &Link, fqdn: &DnsName) -> Result<DnsName, SolveError> {
    let mut candidate = Some(fqdn.clone());
    let mut delegated = None;
    let mut last = String::new();
    for _ in 0..MAX_LABELS {
        let Some(name) = candidate else { break };
        let reply = link.send(&question(&name, RecordType::SOA)?).await?;
        // Servers refuse names outside of their zones.
        let refused = reply.message.metadata.response_code == ResponseCode::Refused;
        if !(refused && matches!(reply.trust, Trust::Full | Trust::Unsigned)) {
            check(link, &reply, fqdn)?;
        }
        match read(&reply.message, &name) {
            Finding::Zone(zone) => {
                return match delegated {
                    None => Ok(zone),
                    Some(to) => Err(SolveError::Misconfigured(format!(
                        "name server {} delegates {to}, which {fqdn} is in, to other servers: set \
                         nameserver to the primary of that zone",
                        reply.server
                    ))),
                };
            }
            Finding::Delegation(to) => delegated = delegated.or(Some(to)),
            Finding::Nothing => {}
        }
        last = reply.server;
        candidate = name.parent();
    }
    Err(SolveError::Misconfigured(format!(
        "name server {last} is authoritative for no zone of {fqdn}: set nameserver to the primary \
         of its zone, or permit questions there, or set zone"
    )))
}

/// The lifetime of the TXT records that `fqdn` has already. All records of a name have the same one
/// (RFC 2181 section 5.2), so others would get that of an added record. A server that refuses the
/// question explains itself when it is updated.
pub(super) async fn present_ttl(link: &Link, fqdn: &DnsName) -> Result<Option<u32>, SolveError> {
    let reply = link.send(&question(fqdn, RecordType::TXT)?).await?;
    let records = reply.message.answers.iter().filter(|record| {
        record.record_type() == RecordType::TXT && dns_name(&record.name).as_ref() == Some(fqdn)
    });
    Ok(records.map(|record| record.ttl).min())
}

fn check(link: &Link, reply: &Reply, fqdn: &DnsName) -> Result<(), SolveError> {
    let attempt = Attempt { server: &reply.server, key: link.key(), fqdn, zone: None };
    attempt.check(&reply.message, reply.trust)
}

/// What an answer says about the zone of a name.
#[derive(Debug, Eq, PartialEq)]
enum Finding {
    Zone(DnsName),
    /// The name is in this zone of other servers.
    Delegation(DnsName),
    Nothing,
}

fn read(message: &Message, name: &DnsName) -> Finding {
    let above = |record: &&hickory_proto::rr::Record| {
        dns_name(&record.name).filter(|zone| name.is_within(zone))
    };
    let owner = |kind: RecordType| {
        let both = message.answers.iter().chain(&message.authorities);
        both.filter(|record| record.record_type() == kind).find_map(|record| above(&record))
    };
    let code = message.metadata.response_code;
    // The zone of an alias is that of its parent; the SOA record may be that of the target.
    let alias = message.answers.iter().any(|record| record.record_type() == RecordType::CNAME);
    if alias || !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Finding::Nothing;
    }
    match (owner(RecordType::SOA), owner(RecordType::NS)) {
        (Some(zone), _) if message.metadata.authoritative => Finding::Zone(zone),
        (None, Some(zone)) if !message.metadata.authoritative => Finding::Delegation(zone),
        _ => Finding::Nothing,
    }
}

fn dns_name(name: &Name) -> Option<DnsName> {
    name.to_ascii().parse().ok()
}

const MAX_LABELS: usize = 128;

#[cfg(test)]
mod tests;
