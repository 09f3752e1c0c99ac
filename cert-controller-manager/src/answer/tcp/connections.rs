//! The open connections, and the admission of new ones.

use std::{collections::VecDeque, net::IpAddr};

use tokio::task::{AbortHandle, Id};

use super::limits::Limits;

/// The unit for limits: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Source(IpAddr);

impl Source {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::from([a, b, c, d, 0, 0, 0, 0])
            }
        })
    }
}

/// The admission of a new connection.
pub(super) enum Admission {
    Open,
    /// Admitted after this one is closed.
    InPlaceOf(AbortHandle),
}

/// The open connections, the oldest first. A linear search is fast enough for hundreds.
pub(super) struct Connections {
    limits: Limits,
    all: VecDeque<(Source, AbortHandle)>,
}

impl Connections {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, all: VecDeque::with_capacity(limits.connections) }
    }

    /// Decides whether a connection of `source` may be [added](Self::add).
    pub(super) fn admit(&mut self, source: Source) -> Admission {
        let count = self.all.iter().filter(|(other, _)| *other == source).count();
        if count >= self.limits.per_source {
            let oldest = self.all.iter().position(|(other, _)| *other == source);
            let oldest = oldest.and_then(|place| self.all.remove(place));
            return oldest.map_or(Admission::Open, |(_, task)| Admission::InPlaceOf(task));
        }
        if self.all.len() < self.limits.connections {
            return Admission::Open;
        }
        self.oldest().map_or(Admission::Open, Admission::InPlaceOf)
    }

    pub(super) fn add(&mut self, source: Source, task: AbortHandle) {
        self.all.push_back((source, task));
    }

    /// Removes the connection of an ended task.
    pub(super) fn remove(&mut self, id: Id) {
        self.all.retain(|(_, task)| task.id() != id);
    }

    /// Removes the oldest connection, which the caller closes.
    pub(super) fn oldest(&mut self) -> Option<AbortHandle> {
        self.all.pop_front().map(|(_, task)| task)
    }
}
