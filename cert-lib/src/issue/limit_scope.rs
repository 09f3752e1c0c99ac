//! What a limit of a CA is about, so that those whom it concerns need not run into it one by one.

use crate::model::name::DnsName;

/// Whom a limit concerns (RFC 8555 section 6.6 leaves it to the CA what it limits).
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
