//! Limits for clients.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// Limits for clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::answer) struct Limits {
    /// Maximum number of connections. A new connection closes the oldest one (RFC 7766 section 6.2.3).
    pub(in crate::answer) connections: usize,
    /// Maximum number of connections of one source. A new one closes its oldest. This is most of the total,
    /// because the resolver of a CA queries many names at once, and a proxy or NAT hides the source.
    pub(in crate::answer) per_source: usize,
    /// Deadline to read a query, and to write a response.
    pub(in crate::answer) timeout: Duration,
    /// Maximum duration of a connection.
    pub(in crate::answer) life: Duration,
}

impl Limits {
    /// The limits of one of `listeners`. The process reserves most file descriptors for itself.
    pub(in crate::answer) fn of_this_process(listeners: usize) -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Self::with(usize::try_from(descriptors).unwrap_or(usize::MAX), listeners)
    }

    pub(super) fn with(descriptors: usize, listeners: usize) -> Self {
        let all = (descriptors / 4).clamp(1, MAX_CONNECTIONS);
        let connections = (all / listeners.max(1)).max(1);
        Self {
            connections,
            per_source: (connections - connections / 4).max(1),
            timeout: Duration::from_secs(5),
            life: Duration::from_secs(30),
        }
    }
}

/// Maximum number of connections: more than resolvers use for challenge records at a time.
const MAX_CONNECTIONS: usize = 512;
