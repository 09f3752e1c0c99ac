//! How long resolvers may cache each kind of record.

/// Default of the TTL of values. It is short, because the next order has other values.
pub const DEFAULT_TTL: u32 = 10;
/// Maximum of the TTL of values.
pub const MAX_TTL: u32 = 3600;

/// TTLs in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ttls {
    /// Maximum for values. An entry may have a shorter one.
    pub(super) value: u32,
    /// Negative answers, and the SOA record. Half of the TTL of values, because a CA may query a name
    /// shortly before its values are published.
    pub(super) negative: u32,
    /// Records that depend on the configuration only.
    pub(super) constant: u32,
}

impl Ttls {
    /// The TTLs for values of `value` seconds.
    #[must_use]
    pub fn new(value: u32) -> Self {
        let value = value.min(MAX_TTL);
        Self { value, negative: value.div_ceil(2), constant: 300 }
    }
}
