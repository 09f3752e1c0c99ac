//! The messages that are sent to a name server: questions and updates (RFC 2136 section 2). Pure.

use hickory_proto::{
    op::{Message, OpCode, Query},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::TXT},
};

use crate::{model::name::DnsName, solve::SolveError};

/// A question that is not to be passed on to other servers.
pub(super) fn question(name: &DnsName, kind: RecordType) -> Result<Message, SolveError> {
    let mut message = Message::query();
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(wire_name(name)?, kind));
    Ok(message)
}

/// Adds TXT `values` to `fqdn`. The server ignores values that are there already, and answers
/// YXRRSET if there is a CNAME, beside which it would ignore all of them.
pub(super) fn addition(
    zone: &DnsName,
    fqdn: &DnsName,
    values: &[String],
    ttl: u32,
) -> Result<Message, SolveError> {
    let mut message = update(zone, fqdn, values)?;
    let name = wire_name(fqdn)?;
    let mut no_alias = Record::update0(name.clone(), 0, RecordType::CNAME);
    no_alias.dns_class = DNSClass::NONE;
    message.add_answer(no_alias);
    for value in values {
        message.add_authority(Record::from_rdata(name.clone(), ttl, text(value)));
    }
    Ok(message)
}

/// Removes TXT `values` from `fqdn`. The server ignores missing values.
pub(super) fn removal(
    zone: &DnsName,
    fqdn: &DnsName,
    values: &[String],
) -> Result<Message, SolveError> {
    let mut message = update(zone, fqdn, values)?;
    let name = wire_name(fqdn)?;
    for value in values {
        let mut record = Record::from_rdata(name.clone(), 0, text(value));
        record.dns_class = DNSClass::NONE;
        message.add_authority(record);
    }
    Ok(message)
}

fn update(zone: &DnsName, fqdn: &DnsName, values: &[String]) -> Result<Message, SolveError> {
    let bytes: usize = values.iter().map(String::len).sum();
    if values.len() > MAX_VALUES || bytes > MAX_BYTES {
        return Err(SolveError::Misconfigured(format!(
            "cannot publish {} values with {bytes} bytes at {fqdn}: the limits are {MAX_VALUES} \
             values and {MAX_BYTES} bytes",
            values.len()
        )));
    }
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(wire_name(zone)?, RecordType::SOA));
    Ok(message)
}

/// One record; its strings have at most 255 bytes each.
fn text(value: &str) -> RData {
    let mut strings: Vec<&[u8]> = value.as_bytes().chunks(255).collect();
    if strings.is_empty() {
        strings.push(&[]);
    }
    RData::TXT(TXT::from_bytes(strings))
}

/// A `DnsName` is always valid in a DNS message; the error satisfies the type.
fn wire_name(name: &DnsName) -> Result<Name, SolveError> {
    Name::from_ascii(format!("{name}."))
        .map_err(|error| SolveError::Misconfigured(format!("cannot send the name {name}: {error}")))
}

/// Together, these keep a message below 64 KiB.
const MAX_VALUES: usize = 400;
const MAX_BYTES: usize = 32 * 1024;

#[cfg(test)]
mod tests;
