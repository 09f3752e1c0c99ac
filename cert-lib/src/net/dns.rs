//! The adapter of [`Resolver`]: one question to one server, over UDP and where
//! that fails over TCP. Opens sockets; reads `/etc/resolv.conf` once, when it is made.
//!
//! Not here: a cache (a look at propagation wants the truth of this moment), retries, search lists,
//! following CNAMEs. An exchange is a few lines on a socket and not a client with a background task,
//! because nothing in this crate spawns.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{Answer, Record, RecordKind, ResolveError, Resolver};
use crate::model::name::DnsName;

/// Asks DNS servers directly, UDP first.
#[derive(Clone, Debug)]
pub struct Udp {
    servers: Vec<SocketAddr>,
}

impl Udp {
    /// With the resolvers of this machine. Without a readable `/etc/resolv.conf` there are none.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        Self::with_servers(parse_resolv_conf(&text))
    }

    /// With `servers` in the place of the machine's resolvers.
    #[must_use]
    pub fn with_servers(servers: Vec<SocketAddr>) -> Self {
        Self { servers }
    }
}

#[async_trait]
impl Resolver for Udp {
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let mut response = ask(server, &question(name, kind, true)?).await?;
        if response.metadata.response_code == ResponseCode::FormErr {
            // A server from before EDNS (RFC 6891 section 7) does not understand the question.
            response = ask(server, &question(name, kind, false)?).await?;
        }
        answer(server, name, kind, &response)
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        self.servers.clone()
    }

    /// As every program of this machine finds a host: with its hosts file and search list.
    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let nowhere = |reason| ResolveError::NoAddress { name: name.clone(), reason };
        let found = timeout(DEADLINE, tokio::net::lookup_host((name.as_str(), port))).await;
        let found: Vec<SocketAddr> = found
            .map_err(|_| nowhere(Fault::TimedOut.to_string()))?
            .map_err(|error| nowhere(error.to_string()))?
            .take(MAX_SERVERS)
            .collect();
        if found.is_empty() { Err(nowhere("nothing was found".to_owned())) } else { Ok(found) }
    }
}

/// The addresses of the `nameserver` lines of `text`, at port 53. What is no address is left out,
/// and so are link-local ones with an interface.
fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let keyword = words.next()?;
        let address = words.next()?.parse::<IpAddr>().ok()?;
        (keyword == "nameserver").then_some(SocketAddr::new(address, PORT))
    };
    text.lines().filter_map(address).take(MAX_SERVERS).collect()
}

fn question(name: &DnsName, kind: RecordKind, edns: bool) -> Result<Message, ResolveError> {
    // A `DnsName` is always a name on the wire as well; the error is for the type only.
    let wire = Name::from_ascii(format!("{name}.")).map_err(|e| ResolveError::Failed {
        server: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        code: e.to_string(),
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

/// UDP, and TCP where the datagram was cut off or never came: firewalls block either.
async fn ask(server: SocketAddr, question: &Message) -> Result<Message, ResolveError> {
    let unreachable = |reason: String| ResolveError::Unreachable { server, reason };
    let wire = question.to_vec().map_err(|e| unreachable(e.to_string()))?;
    let over_udp = within(over_udp(server, question, &wire)).await;
    let udp_reason = match over_udp {
        Ok(response) if !response.metadata.truncation => return Ok(response),
        Ok(_) => "cut off".to_owned(),
        Err(fault) => fault.to_string(),
    };
    within(over_tcp(server, question, &wire))
        .await
        .map_err(|tcp| unreachable(format!("UDP: {udp_reason}; TCP: {tcp}")))
}

async fn within(exchange: impl Future<Output = Result<Message, Fault>>) -> Result<Message, Fault> {
    timeout(DEADLINE, exchange).await.unwrap_or(Err(Fault::TimedOut))
}

async fn over_udp(server: SocketAddr, question: &Message, wire: &[u8]) -> Result<Message, Fault> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket hears nobody but the server.
    socket.connect(server).await?;
    socket.send(wire).await?;
    let mut buffer = vec![0; usize::from(MAX_DATAGRAM)];
    for _ in 0..MAX_STRAYS {
        let length = socket.recv(&mut buffer).await?;
        let response = Message::from_vec(buffer.get(..length).unwrap_or_default());
        // A datagram that is not the answer may be forged: the right one may still come.
        if let Some(response) = response.ok().filter(|response| answers(question, response)) {
            return Ok(response);
        }
    }
    Err(Fault::NotAnAnswer)
}

async fn over_tcp(server: SocketAddr, question: &Message, wire: &[u8]) -> Result<Message, Fault> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(wire.len()).map_err(|_| Fault::NotAnAnswer)?;
    // In one write, because a server may take the length alone for the whole message.
    stream.write_all(&[&length.to_be_bytes(), wire].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    Message::from_vec(&buffer)
        .ok()
        .filter(|response| answers(question, response))
        .ok_or(Fault::NotAnAnswer)
}

/// Whether `response` is for this `question`. A server that fails or refuses may leave the question
/// out of its answer.
fn answers(question: &Message, response: &Message) -> bool {
    let of_response = &response.metadata;
    let same_question = match response.queries.as_slice() {
        [] => !matches!(of_response.response_code, ResponseCode::NoError | ResponseCode::NXDomain),
        queries => queries == question.queries,
    };
    of_response.message_type == MessageType::Response
        && of_response.id == question.metadata.id
        && same_question
}

fn answer(
    server: SocketAddr,
    name: &DnsName,
    kind: RecordKind,
    response: &Message,
) -> Result<Answer, ResolveError> {
    let no_such_name = match response.metadata.response_code {
        ResponseCode::NoError => false,
        ResponseCode::NXDomain => true,
        code => return Err(ResolveError::Failed { server, code: code_name(code) }),
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

/// What `name` itself is an alias of. The answer may hold a whole chain in any order; of several for
/// one name, which no zone may have, always the same one is taken.
fn alias(
    server: SocketAddr,
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
        return Err(ResolveError::Failed { server, code });
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

/// The mnemonics of the registry (RFC 6895 section 2.3), which is what people search for.
fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::NotAuth => "NOTAUTH".to_owned(),
        other => format!("code {}", u16::from(other)),
    }
}

/// Why one exchange brought nothing.
#[derive(Debug)]
enum Fault {
    TimedOut,
    NotAnAnswer,
    Io(std::io::Error),
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => write!(f, "nothing within {} s", DEADLINE.as_secs()),
            Self::NotAnAnswer => f.write_str("something that is no answer to the question"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// More resolvers than anybody has, and still few enough to ask one after the other.
const MAX_SERVERS: usize = 8;
/// Fits every path without fragments (DNS flag day 2020).
const MAX_DATAGRAM: u16 = 1232;
/// How many datagrams that are no answer are read before TCP, which is hard to forge, is tried.
const MAX_STRAYS: usize = 16;
/// For one exchange over one transport.
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
