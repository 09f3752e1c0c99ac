//! The adapter of [`Resolver`]: one question to one server, over UDP, and over TCP when UDP fails.
//! Opens sockets; reads `/etc/resolv.conf` once, when it is created.
//!
//! Not here: the sockets (`exchange`), a cache (propagation checks need the current state), retries,
//! search lists, following CNAMEs.

pub(crate) mod exchange;
pub(in crate::net) mod message;

use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use hickory_proto::op::{Message, ResponseCode};
use tokio::time::timeout;

use self::{
    exchange::{DEADLINE, ExchangeError, answers, over_tcp, over_udp},
    message::{answer, question},
};
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
    let read = |wire: &[u8]| {
        let response = Message::from_vec(wire).ok();
        response.filter(|response| answers(question, response))
    };
    let udp_reason = match over_udp(server, &wire, read).await {
        Ok(response) if !response.metadata.truncation => return Ok(response),
        Ok(_) => "cut off".to_owned(),
        Err(fault) => fault.to_string(),
    };
    over_tcp(server, &wire, read)
        .await
        .map_err(|tcp| unreachable(format!("UDP: {udp_reason}; TCP: {tcp}")))
}

const RESOLV_CONF: &str = "/etc/resolv.conf";
const PORT: u16 = 53;
/// More than any machine has, and few enough to ask them one by one.
const MAX_SERVERS: usize = 8;

#[cfg(test)]
mod tests;
