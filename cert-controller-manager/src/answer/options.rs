//! What the operator configures.

use std::net::{IpAddr, SocketAddr};

use cert_lib::model::name::DnsName;

use super::{
    authority::Authority,
    mailbox::Mailbox,
    ttl::{DEFAULT_TTL, Ttls},
};

/// Configuration of the DNS server.
#[derive(Clone, Debug, Default)]
pub struct ServerOptions {
    /// Addresses to bind, for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Content that does not depend on orders.
    pub zones: ZoneOptions,
    /// Maximum number of answers over UDP to one client network per second; 0 is no limit.
    pub rate_limit: u32,
}

/// The zones, and the records that they have without any order.
#[derive(Clone, Debug)]
pub struct ZoneOptions {
    /// Delegated zones.
    pub zones: Vec<DnsName>,
    /// Host name of the name server, which may lie outside the zones; `ns.<zone>` if unset.
    pub server: Option<DnsName>,
    /// Mailbox in the SOA record; `hostmaster.<zone>` if unset.
    pub mailbox: Option<Mailbox>,
    /// Public addresses of the name server. Without them, its name has no address records here, and the
    /// delegation needs glue. Not used for a name server outside the zones.
    pub addresses: Vec<IpAddr>,
    /// Maximum TTL of values, in seconds.
    pub ttl: u32,
}

impl Default for ZoneOptions {
    fn default() -> Self {
        Self {
            zones: Vec::new(),
            server: None,
            mailbox: None,
            addresses: Vec::new(),
            ttl: DEFAULT_TTL,
        }
    }
}

impl ZoneOptions {
    /// These zones with the defaults.
    #[must_use]
    pub fn of(zones: Vec<DnsName>) -> Self {
        Self { zones, ..Self::default() }
    }

    /// The TTLs of all records.
    #[must_use]
    pub(super) fn ttls(&self) -> Ttls {
        Ttls::new(self.ttl)
    }

    /// The authority of `zone`.
    ///
    /// # Errors
    /// When a default name is too long for DNS; the message names the zone.
    pub fn authority(&self, zone: &DnsName) -> Result<Authority, String> {
        Authority::new(zone, self.server.as_ref(), self.mailbox.as_ref(), self.ttls())
    }
}
