//! What the solver remembers of its writes.

use jiff::Timestamp;

/// The version of an entry after our last write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Applied {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) at: Timestamp,
}
