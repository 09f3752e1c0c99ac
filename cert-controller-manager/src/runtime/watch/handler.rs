//! What a watch reports: the availability of its kind, and changes.

use crate::api::ObjectKey;

/// Whether a kind can be watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Availability {
    /// There is no response yet.
    Unknown,
    /// The list is complete.
    Present,
    /// The API server does not serve the kind.
    Absent,
    /// We have no right to list or watch the kind.
    Denied,
}

/// Handles changes. Its methods must be fast, because they block the watch.
pub trait EventHandler<K> {
    /// Called for each new or changed object, and for every object after each list.
    fn applied(&self, object: K);
    /// Called for each deleted object.
    fn gone(&self, key: &ObjectKey);
    /// The keys of the known objects.
    fn keys(&self) -> Vec<ObjectKey>;
    /// Called after each complete list.
    fn complete(&self) {}
}
