//! Addresses of name servers, as users write them. Pure: a host name is resolved when it is used.

use std::{
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use crate::model::name::{DnsName, NameError};

/// A name server as users write it: `host`, `host:port`, an address, `address:port`, `[v6]:port`.
/// The default port is 53.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Nameserver {
    /// An address.
    Address(SocketAddr),
    /// A host name, resolved when it is used: its address may change, and may be unknown at the
    /// start.
    Host {
        /// Name of the server.
        name: DnsName,
        /// Port that it listens on.
        port: u16,
    },
}

/// Why a text is no name server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no name server; write host, host:port, an address or [v6 address]:port")]
pub struct NameserverError {
    /// The text.
    pub text: String,
    /// What is wrong with the host name.
    #[source]
    pub source: Option<NameError>,
}

impl From<SocketAddr> for Nameserver {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl FromStr for Nameserver {
    type Err = NameserverError;

    fn from_str(text: &str) -> Result<Self, NameserverError> {
        let refused = |source| NameserverError { text: text.to_owned(), source };
        let text = text.trim();
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Address(SocketAddr::new(address, PORT)));
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(refused(None)),
                _ => Ok(Self::Address(address)),
            };
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (text, Some(PORT)),
        };
        let port = port.ok_or_else(|| refused(None))?;
        let name: DnsName = host.parse().map_err(|e| refused(Some(e)))?;
        if name.is_wildcard() {
            return Err(refused(None));
        }
        Ok(Self::Host { name, port })
    }
}

const PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_parsed() {
        let host = |name: &str, port| Some(Nameserver::Host { name: name.parse().unwrap(), port });
        let address = |text: &str| Some(Nameserver::Address(text.parse().unwrap()));
        for (text, want) in [
            ("1.2.3.4", address("1.2.3.4:53")),
            (" 1.2.3.4:5353 ", address("1.2.3.4:5353")),
            ("2001:db8::1", address("[2001:db8::1]:53")),
            ("[2001:db8::1]", address("[2001:db8::1]:53")),
            ("[2001:db8::1]:5353", address("[2001:db8::1]:5353")),
            ("ns.example.org", host("ns.example.org", 53)),
            ("ns.example.org:5353", host("ns.example.org", 5353)),
            ("", None),
            (":53", None),
            ("1.2.3.4:0", None),
            ("1.2.3.4:65536", None),
            ("ns.example.org:dns", None),
            ("[2001:db8::1", None),
            ("*.example.org", None),
            ("a b", None),
        ] {
            assert_eq!(text.parse::<Nameserver>().ok(), want, "{text:?}");
        }
    }
}
