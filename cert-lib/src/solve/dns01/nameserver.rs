//! Addresses of name servers, as users write them. Pure: a host name is resolved when it is used.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use ::http::Uri;

use crate::model::name::{DnsName, NameError};

/// A name server as users write it: `host`, `host:port`, an address, `address:port`, `[v6]:port`;
/// the default port is 53. Or the URL of a server for DNS over HTTPS, `https://host/dns-query`.
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
    /// The URL of a server for DNS over HTTPS (RFC 8484).
    Https(Arc<str>),
}

/// Why a text is no name server.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{text:?} is no name server; write host, host:port, an address, [v6 address]:port, or https://host/dns-query"
)]
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

/// The text that [`FromStr`] reads.
impl fmt::Display for Nameserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Https(url) => f.write_str(url),
        }
    }
}

impl FromStr for Nameserver {
    type Err = NameserverError;

    fn from_str(text: &str) -> Result<Self, NameserverError> {
        let refused = |source| NameserverError { text: text.to_owned(), source };
        let text = text.trim();
        if text.contains("://") {
            // Never quotes login data.
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            let error = NameserverError { text: shown.to_owned(), source: None };
            return https(text).map(Self::Https).ok_or(error);
        }
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

/// The URL in `text`. Login data is refused, because URLs are parts of messages.
fn https(text: &str) -> Option<Arc<str>> {
    // Some documentations show the template of RFC 8484.
    let text = text.strip_suffix("{?dns}").unwrap_or(text);
    let uri: Uri = text.parse().ok().filter(|_| text.len() <= MAX_URL)?;
    let usable = uri.scheme_str() == Some("https")
        && uri.host().is_some_and(|host| !host.is_empty())
        && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        && !matches!(uri.path(), "" | "/");
    usable.then(|| uri.to_string().into())
}

const PORT: u16 = 53;
const MAX_URL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_parsed() {
        let host = |name: &str, port| Some(Nameserver::Host { name: name.parse().unwrap(), port });
        let https = |url: &str| Some(Nameserver::Https(url.into()));
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
            ("https://dns.test/dns-query", https("https://dns.test/dns-query")),
            ("https://dns.test/dns-query{?dns}", https("https://dns.test/dns-query")),
            ("https://[2001:db8::1]:8443/q", https("https://[2001:db8::1]:8443/q")),
            ("http://dns.test/dns-query", None),
            ("https://dns.test", None),
            ("https://dns.test/", None),
            ("https:///dns-query", None),
            ("https://user:password@dns.test/dns-query", None),
            ("https://dns.test/dns query", None),
            ("tls://dns.test", None),
        ] {
            assert_eq!(text.parse::<Nameserver>().ok(), want, "{text:?}");
            if let Some(server) = want {
                assert_eq!(server.to_string().parse().as_ref(), Ok(&server), "{text:?}");
            }
        }
    }
}
