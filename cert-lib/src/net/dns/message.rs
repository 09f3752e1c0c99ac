//! Questions and answers as DNS messages (RFC 1035 section 4), for every transport. Pure.
//!
//! Not here: names of servers in messages; a caller knows whom it asked.

use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::exchange::{MAX_DATAGRAM, code_name};
use crate::{
    model::name::DnsName,
    net::{Answer, Record, RecordKind, ResolveError, Server},
};

/// The question to `server` for the records of `name`.
///
/// # Errors
/// Never: a `DnsName` is always valid in a DNS message. The error satisfies the type.
pub(in crate::net) fn question(
    server: &Server,
    name: &DnsName,
    kind: RecordKind,
    edns: bool,
) -> Result<Message, ResolveError> {
    let wire = Name::from_ascii(format!("{name}.")).map_err(|error| ResolveError::Unreachable {
        server: server.clone(),
        reason: error.to_string(),
    })?;
    let mut message = Message::query();
    message.metadata.recursion_desired = kind != RecordKind::Cname;
    message.add_query(Query::query(wire, record_type(kind)));
    if edns {
        let mut options = Edns::new();
        options.set_max_payload(MAX_DATAGRAM).set_version(0);
        message.set_edns(options);
    }
    Ok(message)
}

fn record_type(kind: RecordKind) -> RecordType {
    match kind {
        RecordKind::A => RecordType::A,
        RecordKind::Aaaa => RecordType::AAAA,
        RecordKind::Cname => RecordType::CNAME,
        RecordKind::Ns => RecordType::NS,
        RecordKind::Soa => RecordType::SOA,
        RecordKind::Txt => RecordType::TXT,
    }
}

/// The content of `response`, the answer of `server`.
///
/// # Errors
/// When the server failed or refused, or a CNAME leads to a name that nothing can be published at.
pub(in crate::net) fn answer(
    server: &Server,
    name: &DnsName,
    kind: RecordKind,
    response: &Message,
) -> Result<Answer, ResolveError> {
    let no_such_name = match response.metadata.response_code {
        ResponseCode::NoError => false,
        ResponseCode::NXDomain => true,
        code => {
            let server = server.clone();
            return Err(ResolveError::Failed { server, code: code_name(code) });
        }
    };
    let wanted = record_type(kind);
    let of_kind = response.answers.iter().filter(|record| record.record_type() == wanted);
    let mut both = response.answers.iter().chain(&response.authorities);
    Ok(Answer {
        authoritative: response.metadata.authoritative,
        no_such_name,
        records: of_kind.filter_map(|record| value(&record.data)).collect(),
        alias: alias(server, name, kind, response)?,
        zone: both
            .find(|record| record.record_type() == RecordType::SOA)
            .and_then(|record| dns_name(&record.name)),
    })
}

/// The target of the CNAME of `name` itself. The answer may contain a whole chain in any order. If
/// a name has several CNAMEs, which is invalid, the choice is deterministic.
fn alias(
    server: &Server,
    name: &DnsName,
    kind: RecordKind,
    response: &Message,
) -> Result<Option<DnsName>, ResolveError> {
    let of_name = response.answers.iter().filter_map(|record| match &record.data {
        RData::CNAME(target) if dns_name(&record.name).as_ref() == Some(name) => Some(&target.0),
        _ => None,
    });
    let Some(target) = of_name.min() else { return Ok(None) };
    let usable = dns_name(target).filter(|target| !target.is_wildcard());
    if usable.is_none() && kind == RecordKind::Cname {
        let code = format!("with a CNAME to {target}, where nothing can be published");
        return Err(ResolveError::Failed { server: server.clone(), code });
    }
    Ok(usable)
}

fn value(data: &RData) -> Option<Record> {
    match data {
        RData::A(address) => Some(Record::Address(address.0.into())),
        RData::AAAA(address) => Some(Record::Address(address.0.into())),
        RData::NS(name) => dns_name(&name.0).map(Record::NameServer),
        RData::TXT(text) => {
            let joined = text.txt_data.concat();
            Some(Record::Text(String::from_utf8_lossy(&joined).into_owned()))
        }
        _ => None,
    }
}

fn dns_name(name: &Name) -> Option<DnsName> {
    name.to_ascii().parse().ok()
}
