//! Sends messages to one name server, signed, over UDP or TCP, and checks the signatures of its
//! answers. Resolves its host for each message.
//!
//! Not here: the meaning of response codes (`failure`).

use std::{net::SocketAddr, sync::Arc};

use hickory_proto::op::{Message, OpCode, ResponseCode};
use tokio::time::timeout;

use super::{
    failure::{Refusal, Trust},
    tsig::TsigKey,
    wire,
};
use crate::{
    clock::Clock,
    net::{
        dns::exchange::{DEADLINE, ExchangeError, answers, over_tcp, over_udp},
        reach::{AddressPolicy, Lookup, NotPublic},
    },
    solve::{SolveError, dns01::Nameserver},
};

/// How messages are sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// UDP, and TCP for large messages, truncated answers and lost datagrams.
    #[default]
    Udp,
    /// TCP only.
    Tcp,
}

/// One name server, and how it is reached.
pub(super) struct Link {
    nameserver: Nameserver,
    key: Option<TsigKey>,
    protocol: Protocol,
    lookup: Lookup,
    clock: Arc<dyn Clock>,
}

/// An answer and how far it can be trusted.
#[derive(Debug)]
pub(super) struct Reply {
    pub message: Message,
    pub trust: Trust,
    /// The server, for messages.
    pub server: String,
}

/// A message as it is sent.
struct Request<'a> {
    message: &'a Message,
    wire: Vec<u8>,
    mac: Vec<u8>,
}

impl Link {
    pub(super) fn new(
        nameserver: Nameserver,
        key: Option<TsigKey>,
        protocol: Protocol,
        policy: Option<Arc<AddressPolicy>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { nameserver, key, protocol, lookup: Lookup::new(policy), clock }
    }

    pub(super) fn key(&self) -> Option<&TsigKey> {
        self.key.as_ref()
    }

    pub(super) fn nameserver(&self) -> &Nameserver {
        &self.nameserver
    }

    /// Sends `message` to the first address of the server that answers. A message may arrive twice.
    pub(super) async fn send(&self, message: &Message) -> Result<Reply, SolveError> {
        let request = self.request(message)?;
        let mut failures = Vec::new();
        for address in self.addresses().await? {
            let server = match &self.nameserver {
                Nameserver::Address(_) => address.to_string(),
                Nameserver::Host { .. } | Nameserver::Https(_) => {
                    format!("{} ({address})", self.nameserver)
                }
            };
            match self.exchange(address, &request).await {
                Ok((message, trust)) => return Ok(Reply { message, trust, server }),
                Err(why) => failures.push(format!("name server {server} does not answer: {why}")),
            }
        }
        Err(SolveError::Unavailable(failures.join("; ")))
    }

    fn request<'a>(&self, message: &'a Message) -> Result<Request<'a>, SolveError> {
        let failed = |why: String| {
            let server = &self.nameserver;
            SolveError::Misconfigured(format!("cannot send a message to {server}: {why}"))
        };
        let plain = message.to_vec().map_err(|error| failed(error.to_string()))?;
        let Some(key) = &self.key else {
            return Ok(Request { message, wire: plain, mac: Vec::new() });
        };
        let signed = key.sign(&plain, self.now());
        let signed = signed.ok_or_else(|| failed("it cannot be signed".to_owned()))?;
        Ok(Request { message, wire: signed.wire, mac: signed.mac })
    }

    async fn addresses(&self) -> Result<Vec<SocketAddr>, SolveError> {
        let (host, port) = match &self.nameserver {
            Nameserver::Address(address) => (address.ip().to_string(), address.port()),
            Nameserver::Host { name, port } => (name.as_str().to_owned(), *port),
            Nameserver::Https(url) => {
                return Err(SolveError::Misconfigured(format!(
                    "{url} takes no updates, because they are not sent over HTTPS: set nameserver to \
                     a host or an address"
                )));
            }
        };
        let server = &self.nameserver;
        let found = timeout(DEADLINE, self.lookup.addresses(&host, port)).await;
        let why = match found {
            Ok(Ok(found)) if !found.is_empty() => {
                return Ok(found.into_iter().take(MAX_ADDRESSES).collect());
            }
            Ok(Ok(_)) => "it has no address".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("its address is unknown after {} s", DEADLINE.as_secs()),
        };
        let message = format!("name server {server} cannot be used: {why}");
        // A host may have another address later.
        match server {
            Nameserver::Address(_) if why == NotPublic.to_string() => {
                Err(SolveError::Misconfigured(message))
            }
            Nameserver::Address(_) | Nameserver::Host { .. } | Nameserver::Https(_) => {
                Err(SolveError::Unavailable(message))
            }
        }
    }

    /// The answer of one address, or why there is none.
    async fn exchange(
        &self,
        address: SocketAddr,
        request: &Request<'_>,
    ) -> Result<(Message, Trust), String> {
        let read = |wire: &[u8]| self.read(request, wire);
        let over_udp = match self.protocol {
            Protocol::Udp if request.wire.len() <= MAX_DATAGRAM => {
                Some(over_udp(address, &request.wire, read).await)
            }
            Protocol::Udp | Protocol::Tcp => None,
        };
        let udp = match over_udp {
            None => String::new(),
            Some(Ok((message, trust))) if trust_suffices(&message, trust) => {
                return Ok((message, trust));
            }
            Some(Ok((message, _))) if message.metadata.truncation => "UDP: cut off; ".to_owned(),
            // Anyone can send a datagram without a valid signature, but not over TCP.
            Some(Ok(_)) => "UDP: not signed correctly; ".to_owned(),
            Some(Err(error)) => format!("UDP: {error}; "),
        };
        over_tcp(address, &request.wire, read)
            .await
            .map_err(|error: ExchangeError| format!("{udp}TCP: {error}"))
    }

    fn read(&self, request: &Request<'_>, wire: &[u8]) -> Option<(Message, Trust)> {
        let split = wire::split(wire)?;
        let message = Message::from_vec(&split.message).ok()?;
        if !answers(request.message, &message) {
            return None;
        }
        let Some(key) = &self.key else { return Some((message, Trust::Full)) };
        let now = self.now();
        let trust = match &split.tsig {
            None => Trust::Unsigned,
            Some(record) => match Refusal::of(record, now) {
                Some(refusal) => Trust::Refused(refusal),
                None => match key.verify(&request.mac, &split.message, record, now) {
                    Ok(()) => Trust::Full,
                    Err(flaw) => Trust::Flawed(flaw),
                },
            },
        };
        Some((message, trust))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.now().as_second()).unwrap_or_default()
    }
}

/// Whether an answer over UDP is final.
fn trust_suffices(message: &Message, trust: Trust) -> bool {
    let succeeded = message.metadata.response_code == ResponseCode::NoError;
    let is_update = message.metadata.op_code == OpCode::Update;
    !message.metadata.truncation
        && match trust {
            Trust::Full | Trust::Refused(_) => true,
            Trust::Unsigned => !(is_update && succeeded),
            Trust::Flawed(_) => false,
        }
}

/// With its headers, such a datagram fits every path without fragmentation.
const MAX_DATAGRAM: usize = 1200;
/// Few servers have more, and each costs a deadline if it is down.
const MAX_ADDRESSES: usize = 4;
