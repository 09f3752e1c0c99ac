//! Answers one message from the shared table. Everything but a plain query is refused. Performs no I/O.
//!
//! A response, and a message without a whole header, gets no answer, so two servers cannot answer each other
//! forever. The counts of the header are checked before anything else is decoded, which bounds the work.

use std::sync::Arc;

use hickory_proto::{
    ProtoError,
    op::{Edns, Message, Metadata, ResponseCode},
    rr::{DNSClass, RecordType},
    serialize::binary::{BinEncodable, BinEncoder},
};

use super::{header::RequestHeader, shared::Shared, zone::Reply};
use crate::runtime::metrics::{DnsTransport, Metrics};

/// Handles queries.
#[derive(Clone)]
pub(super) struct Handler {
    table: Arc<Shared>,
    pub(super) metrics: Metrics,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Delivery {
    Udp,
    /// Without records over UDP, so that the client repeats its query over TCP.
    UdpTruncated,
    Tcp,
}

impl Handler {
    pub(super) fn new(table: Arc<Shared>, metrics: Metrics) -> Self {
        Self { table, metrics }
    }

    /// Writes the answer to `message` into `buffer`. Returns whether there is one.
    pub(super) fn answer(&self, message: &[u8], delivery: Delivery, buffer: &mut Vec<u8>) -> bool {
        let code = self.respond(message, delivery, buffer);
        let transport = match delivery {
            Delivery::Udp | Delivery::UdpTruncated => DnsTransport::Udp,
            Delivery::Tcp => DnsTransport::Tcp,
        };
        self.metrics.answered(transport, code.map(u16::from));
        code.is_some()
    }

    fn respond(
        &self,
        message: &[u8],
        delivery: Delivery,
        buffer: &mut Vec<u8>,
    ) -> Option<ResponseCode> {
        buffer.clear();
        let header = RequestHeader::read(message)?;
        let refusal = if !header.is_query() {
            ResponseCode::NotImp
        } else if !header.has_plain_counts() {
            ResponseCode::FormErr
        } else if let Ok(query) = Message::from_vec(message) {
            let response = self.response(&query, delivery);
            match emit(&response, limit(message, &query, delivery), buffer) {
                Ok(()) => return Some(response.metadata.response_code),
                Err(_) => ResponseCode::ServFail,
            }
        } else {
            ResponseCode::FormErr
        };
        buffer.clear();
        buffer.extend(header.refusal(refusal));
        Some(refusal)
    }

    fn response(&self, query: &Message, delivery: Delivery) -> Message {
        let reply = reply(&self.table, query);
        let mut metadata = Metadata::response_from_request(&query.metadata);
        metadata.authoritative = reply.authoritative;
        metadata.response_code = reply.code;
        let mut response = Message::query();
        response.metadata = metadata;
        response.queries.clone_from(&query.queries);
        response.answers = reply.answers;
        response.authorities = reply.authority;
        response.additionals = reply.additional;
        response.edns = query.edns.as_ref().map(|edns| edns_for(edns, reply.code));
        let short = response.answers.is_empty() && response.authorities.is_empty();
        match delivery {
            Delivery::UdpTruncated if !short => response.truncate(),
            Delivery::Udp | Delivery::UdpTruncated | Delivery::Tcp => response,
        }
    }
}

fn reply(table: &Shared, query: &Message) -> Reply {
    let refuse = |code| Reply::bare(code, false);
    if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(ResponseCode::BADVERS);
    }
    let [question] = query.queries.as_slice() else { return refuse(ResponseCode::FormErr) };
    match (question.query_class(), question.query_type()) {
        (_, RecordType::AXFR | RecordType::IXFR) => refuse(ResponseCode::Refused),
        (DNSClass::IN, kind) => table.read().answer(question.name(), kind),
        _ => refuse(ResponseCode::Refused),
    }
}

/// Encodes a response. Without room for all records, there are none, and the client repeats its query over
/// TCP.
fn emit(response: &Message, limit: u16, buffer: &mut Vec<u8>) -> Result<(), ProtoError> {
    emit_within(response, limit, buffer)?;
    let truncated = buffer.get(2).is_some_and(|flags| flags & TRUNCATED != 0);
    if truncated && !response.metadata.truncation {
        buffer.clear();
        emit_within(&response.truncate(), limit, buffer)?;
    }
    Ok(())
}

fn emit_within(response: &Message, limit: u16, buffer: &mut Vec<u8>) -> Result<(), ProtoError> {
    let mut encoder = BinEncoder::new(buffer);
    encoder.set_max_size(limit);
    response.emit(&mut encoder)
}

/// The maximum size of the response. Over UDP, it needs no fragmentation and is not much larger than the
/// query, which limits amplification attacks.
fn limit(message: &[u8], query: &Message, delivery: Delivery) -> u16 {
    match delivery {
        Delivery::Tcp => u16::MAX,
        Delivery::Udp | Delivery::UdpTruncated => {
            let fair = u16::try_from(message.len()).unwrap_or(u16::MAX).saturating_mul(MAX_FACTOR);
            let limit = query.edns.as_ref().map_or(MIN_DATAGRAM, Edns::max_payload);
            limit.clamp(MIN_DATAGRAM, MAX_DATAGRAM).min(fair)
        }
    }
}

fn edns_for(request: &Edns, code: ResponseCode) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_DATAGRAM);
    edns.set_rcode_high(code.high());
    edns.set_dnssec_ok(request.flags().dnssec_ok);
    edns
}

/// Maximum size of a query: a name of 255 bytes and some options.
pub(super) const MAX_QUERY: usize = 2048;
/// Maximum size of a response over UDP (DNS flag day 2020).
pub(super) const MAX_DATAGRAM: u16 = 1232;
/// Maximum size for clients without EDNS (RFC 1035 section 2.3.4).
const MIN_DATAGRAM: u16 = 512;
/// Maximum size of a response over UDP in relation to its query. Half a dozen values of challenges fit.
const MAX_FACTOR: u16 = 10;
/// The flag TC in the third byte of a message.
const TRUNCATED: u8 = 0b10;

#[cfg(test)]
mod tests;
