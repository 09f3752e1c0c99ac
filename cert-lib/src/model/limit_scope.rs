//! The scope of a limit of a CA, so that the orders it concerns need not meet it one by one.

use super::name::DnsName;

/// The orders that a limit concerns (RFC 8555 section 6.6 leaves it to the CA what it limits).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LimitScope {
    /// Every order of the account.
    Account,
    /// Orders for names below a registered domain.
    Domain(DnsName),
    /// Orders for exactly the same names.
    Set,
    /// Orders for this very name.
    Name(DnsName),
}
