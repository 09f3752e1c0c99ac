//! The addresses that may be connected to where tenants choose the server: [`AddressPolicy`], and
//! the connector that enforces it, [`TcpConnector`].
//!
//! A name is resolved once, and the connection is made to the checked addresses. A name that
//! changes in between (DNS rebinding) has no effect.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
    vec,
};

use ::http::{Uri, uri::Scheme};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::Name},
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use super::cidr::Cidr;

/// Public addresses and the ranges that an operator permits. The default permits no other range.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressPolicy {
    allowed: Vec<Cidr>,
}

impl AddressPolicy {
    /// Permits public addresses and the `allowed` ranges.
    #[must_use]
    pub fn new(allowed: Vec<Cidr>) -> Self {
        Self { allowed }
    }

    /// Whether `address` may be connected to. An IPv6 address that embeds an IPv4 address (mapped,
    /// NAT64) is treated as that IPv4 address.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let destination = destination(address);
        let allowed = |range: &Cidr| range.contains(address) || range.contains(destination);
        is_public(destination) || self.allowed.iter().any(allowed)
    }
}

/// The address that packets to `address` arrive at.
fn destination(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if address.segments().starts_with(&NAT64) => {
            let [.., a, b, c, d] = address.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

/// Whether `address` is a public one by the registries of special addresses (IANA, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        // This network, loopback, private, carrier-grade NAT, link-local.
        (0 | 10 | 127, ..)
            | (172, 16..=31, _)
            | (192, 168, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            // Protocol assignments, 6to4 relay, documentation, benchmarks.
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (198, 51, 100)
            | (203, 0, 113)
            | (198, 18..=19, _)
            // Multicast, reserved, broadcast.
            | (224..=255, ..)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // All public addresses are in 2000::/3. Loopback, unique local, link-local and multicast ones
    // are not.
    (0x2000..=0x3fff).contains(&segments[0])
        && !matches!(
            (segments[0], segments[1]),
            // Protocol assignments with Teredo, and 6to4: both embed an IPv4 address.
            (0x2001, 0..=0x1ff)
                | (0x2002, _)
                // Documentation.
                | (0x2001, 0x0db8)
                | (0x3fff, 0..=0x0fff)
        )
}

/// Resolves a host with the system resolver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lookup {
    policy: Option<Arc<AddressPolicy>>,
}

impl Lookup {
    /// Returns any address, or only those that `policy` permits.
    pub(crate) fn new(policy: Option<Arc<AddressPolicy>>) -> Self {
        Self { policy }
    }

    /// The permitted addresses of a host.
    pub(crate) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host((host, port)).await;
        let Some(policy) = &self.policy else { return Ok(found?.collect()) };
        // The error hides whether an internal name exists.
        let found = found.into_iter().flatten();
        let permitted: Vec<_> =
            found.filter(|it| policy.permits(it.ip())).take(MAX_ADDRESSES).collect();
        if permitted.is_empty() { Err(io::Error::other(NotPublic)) } else { Ok(permitted) }
    }
}

impl Lookup {
    /// The address to connect to through a proxy.
    pub(super) async fn first(&self, host: &str, port: u16) -> io::Result<SocketAddr> {
        let host = host.trim_matches(['[', ']']);
        let all = self.addresses(host, port).await?;
        all.first().copied().ok_or_else(|| io::Error::other(NotPublic))
    }
}

/// Why a host is not connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "it has no public address, and others are for the manager's operator to permit by \
     --allowed-private-ranges"
)]
pub struct NotPublic;

impl Service<Name> for Lookup {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.clone();
        // The connector sets the port.
        Box::pin(async move { Ok(lookup.addresses(name.as_str(), 0).await?.into_iter()) })
    }
}

/// Opens TCP connections, to permitted addresses only if there is a policy.
#[derive(Clone, Debug)]
pub struct TcpConnector {
    tcp: HttpConnector<Lookup>,
    lookup: Lookup,
}

impl TcpConnector {
    /// Connects to any address, or to those that `policy` permits.
    #[must_use]
    pub fn new(policy: Option<Arc<AddressPolicy>>) -> Self {
        let lookup = Lookup::new(policy);
        let mut tcp = HttpConnector::new_with_resolver(lookup.clone());
        tcp.enforce_http(false);
        // Without it the body of every HTTP/2 POST waits 40 ms for the acknowledgement of its head.
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self { tcp, lookup }
    }

    /// Resolves hosts for a proxy, which would otherwise resolve them itself; `None` where that is
    /// allowed.
    pub(super) fn lookup(&self) -> Option<Lookup> {
        self.lookup.policy.is_some().then(|| self.lookup.clone())
    }

    /// A literal address is not looked up.
    fn check(&self, uri: &Uri) -> Result<(), NotPublic> {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        match (&self.lookup.policy, host.parse::<IpAddr>()) {
            (Some(policy), Ok(address)) if !policy.permits(address) => Err(NotPublic),
            _ => Ok(()),
        }
    }
}

impl Service<Uri> for TcpConnector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Err(refused) = self.check(&uri) {
            return Box::pin(std::future::ready(Err(refused.into())));
        }
        let connecting = self.tcp.call(uri);
        Box::pin(async move { Ok(connecting.await?) })
    }
}

/// Host and port of `uri`.
pub(super) fn host_and_port(uri: &Uri) -> (&str, u16) {
    let default = if uri.scheme() == Some(&Scheme::HTTP) { 80 } else { 443 };
    (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(default))
}

/// The well-known prefix of NAT64 (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];
/// Most addresses of one host that are tried.
const MAX_ADDRESSES: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(ranges: &[&str]) -> AddressPolicy {
        AddressPolicy::new(ranges.iter().map(|range| range.parse().unwrap()).collect())
    }

    #[test]
    fn only_public_addresses_are_permitted() {
        let none = AddressPolicy::default();
        for (address, public) in [
            ("1.1.1.1", true),
            ("100.63.255.255", true),
            ("172.15.0.1", true),
            ("172.32.0.1", true),
            ("192.0.1.1", true),
            ("198.17.0.1", true),
            ("223.255.255.255", true),
            ("2606:4700::1111", true),
            ("2001:200::1", true),
            ("2a00::1", true),
            ("::ffff:1.1.1.1", true),
            ("64:ff9b::1.1.1.1", true),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.0.0.1", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("127.255.255.255", false),
            ("169.254.169.254", false),
            ("172.16.0.1", false),
            ("172.31.255.255", false),
            ("192.0.0.1", false),
            ("192.0.2.1", false),
            ("192.88.99.1", false),
            ("192.168.0.1", false),
            ("198.18.0.1", false),
            ("198.19.255.255", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::1.1.1.1", false),
            ("::ffff:10.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("64:ff9b::127.0.0.1", false),
            ("64:ff9b:1::1.1.1.1", false),
            ("100::1", false),
            ("2001::1", false),
            ("2001:20::1", false),
            ("2001:db8::1", false),
            ("2002:0a00:0001::1", false),
            ("2002:0101:0101::1", false),
            ("3fff::1", false),
            ("5f00::1", false),
            ("fc00::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("ff02::1", false),
        ] {
            assert_eq!(none.permits(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn an_operator_permits_ranges() {
        let some = policy(&["10.1.0.0/16", "fd00::/8"]);
        for (address, permitted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("64:ff9b::10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("1.1.1.1", true),
        ] {
            assert_eq!(some.permits(address.parse().unwrap()), permitted, "{address}");
        }
    }

    #[tokio::test]
    async fn every_spelling_of_an_address_is_checked() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let none = TcpConnector::new(Some(Arc::default()));
        let some = TcpConnector::new(Some(Arc::new(policy(&["127.0.0.0/8", "::1"]))));
        for host in [
            "127.0.0.1",
            "[::ffff:127.0.0.1]",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f.1",
            "[::]",
        ] {
            let uri: Uri = format!("https://{host}:{port}/").parse().unwrap();
            let refused = none.clone().call(uri).await.map(drop).unwrap_err();
            let mut text = refused.to_string();
            let mut cause = refused.source();
            while let Some(error) = cause {
                text = error.to_string();
                cause = error.source();
            }
            assert_eq!(text, NotPublic.to_string(), "{host}");
        }
        let uri: Uri = format!("https://localhost:{port}/").parse().unwrap();
        assert!(some.clone().call(uri).await.is_ok());
    }
}
