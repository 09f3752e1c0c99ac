//! The server that a proxy connects to.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ::http::Uri;

use crate::net::reach::host_and_port;

/// The server that a proxy connects to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Destination {
    Address(SocketAddr),
    Name(String, u16),
}

impl Destination {
    pub(super) fn of(uri: &Uri) -> Self {
        let (host, port) = host_and_port(uri);
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => Self::Address((address, port).into()),
            Err(_) => Self::Name(host.to_owned(), port),
        }
    }
}

/// Host and port, as in a URL.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
