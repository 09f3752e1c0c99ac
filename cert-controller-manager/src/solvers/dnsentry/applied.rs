//! What the solver remembers of its writes.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::api::ObjectKey;

/// The state of one owner.
#[derive(Clone, Debug, Default)]
pub(super) struct AppliedEntries {
    pub(super) applied: HashMap<ObjectKey, Applied>,
    /// Time of the first call of `ready`.
    pub(super) first_check: Option<Timestamp>,
    /// Time when all values were visible first.
    pub(super) first_visible: Option<Timestamp>,
}

/// The version of an entry after our last write.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Applied {
    pub(super) uid: String,
    pub(super) generation: i64,
    pub(super) at: Timestamp,
}
