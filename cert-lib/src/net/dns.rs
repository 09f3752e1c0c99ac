//! The adapter of [`Resolver`]: one question to one server, over UDP, and over TCP when UDP fails.
//! Opens sockets; reads `/etc/resolv.conf` once, when it is created.
//!
//! Not here: a cache (propagation checks need the current state), retries, search lists, following
//! CNAMEs. An exchange uses a socket directly and not a client with a background task, because
//! nothing in this crate spawns.

pub(in crate::net) mod message;

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use self::message::{MAX_DATAGRAM, answer, answers, question};
use super::{Answer, RecordKind, ResolveError, Resolver, Server};
use crate::model::name::DnsName;

/// Asks DNS servers directly, UDP first.
#[derive(Clone, Debug)]
pub struct Udp {
    servers: Vec<SocketAddr>,
}

impl Udp {
    /// Uses the resolvers of this machine. Without a readable `/etc/resolv.conf` there are none.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let text = std::fs::read_to_string(RESOLV_CONF).unwrap_or_default();
        Self::with_servers(parse_resolv_conf(&text))
    }

    /// Uses `servers` instead of the resolvers of this machine.
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
        let shown = Server::Address(server);
        let mut response = ask(server, &question(&shown, name, kind, true)?).await?;
        if response.metadata.response_code == ResponseCode::FormErr {
            // Servers without EDNS (RFC 6891 section 7) reject the question.
            response = ask(server, &question(&shown, name, kind, false)?).await?;
        }
        answer(&shown, name, kind, &response)
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        self.servers.clone()
    }

    /// Resolves a host as other programs of this machine do: with the hosts file and the search
    /// list.
    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let nowhere = |reason| ResolveError::NoAddress { name: name.clone(), reason };
        let found = timeout(DEADLINE, tokio::net::lookup_host((name.as_str(), port))).await;
        let found: Vec<SocketAddr> = found
            .map_err(|_| nowhere(ExchangeError::TimedOut.to_string()))?
            .map_err(|error| nowhere(error.to_string()))?
            .take(MAX_SERVERS)
            .collect();
        if found.is_empty() { Err(nowhere("nothing was found".to_owned())) } else { Ok(found) }
    }
}

/// The addresses of the `nameserver` lines of `text`, at port 53. Invalid addresses and link-local
/// ones with an interface are skipped.
fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let keyword = words.next()?;
        let address = words.next()?.parse::<IpAddr>().ok()?;
        (keyword == "nameserver").then_some(SocketAddr::new(address, PORT))
    };
    text.lines().filter_map(address).take(MAX_SERVERS).collect()
}

/// UDP, then TCP if the datagram was truncated or lost: firewalls block either.
async fn ask(server: SocketAddr, question: &Message) -> Result<Message, ResolveError> {
    let unreachable =
        |reason: String| ResolveError::Unreachable { server: Server::Address(server), reason };
    let wire = question.to_vec().map_err(|e| unreachable(e.to_string()))?;
    let over_udp = with_deadline(over_udp(server, question, &wire)).await;
    let udp_reason = match over_udp {
        Ok(response) if !response.metadata.truncation => return Ok(response),
        Ok(_) => "cut off".to_owned(),
        Err(fault) => fault.to_string(),
    };
    with_deadline(over_tcp(server, question, &wire))
        .await
        .map_err(|tcp| unreachable(format!("UDP: {udp_reason}; TCP: {tcp}")))
}

async fn with_deadline(
    exchange: impl Future<Output = Result<Message, ExchangeError>>,
) -> Result<Message, ExchangeError> {
    timeout(DEADLINE, exchange).await.unwrap_or(Err(ExchangeError::TimedOut))
}

async fn over_udp(
    server: SocketAddr,
    question: &Message,
    wire: &[u8],
) -> Result<Message, ExchangeError> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // A connected socket only receives datagrams of the server.
    socket.connect(server).await?;
    socket.send(wire).await?;
    let mut buffer = vec![0; usize::from(MAX_DATAGRAM)];
    for _ in 0..MAX_STRAY_DATAGRAMS {
        let length = socket.recv(&mut buffer).await?;
        let response = Message::from_vec(buffer.get(..length).unwrap_or_default());
        // Another datagram may be forged: the right one may still arrive.
        if let Some(response) = response.ok().filter(|response| answers(question, response)) {
            return Ok(response);
        }
    }
    Err(ExchangeError::NotAnAnswer)
}

async fn over_tcp(
    server: SocketAddr,
    question: &Message,
    wire: &[u8],
) -> Result<Message, ExchangeError> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(wire.len()).map_err(|_| ExchangeError::NotAnAnswer)?;
    // In one write, because a server may read the length as the whole message.
    stream.write_all(&[&length.to_be_bytes(), wire].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    Message::from_vec(&buffer)
        .ok()
        .filter(|response| answers(question, response))
        .ok_or(ExchangeError::NotAnAnswer)
}

/// Why an exchange failed.
#[derive(Debug)]
enum ExchangeError {
    TimedOut,
    NotAnAnswer,
    Io(std::io::Error),
}

impl From<std::io::Error> for ExchangeError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for ExchangeError {
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
/// More than any machine has, and few enough to ask them one by one.
const MAX_SERVERS: usize = 8;
/// After so many unrelated datagrams TCP is tried, which is harder to forge.
const MAX_STRAY_DATAGRAMS: usize = 16;
/// For one exchange over one transport.
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
