//! When to ask the CA of a Certificate for renewal information, and its answer.

use cert_lib::plan::renewal::Suggested;
use jiff::Timestamp;

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Schedule {
    /// Hash of the certificate's ACME identifier.
    pub(super) certificate: u32,
    /// Time of the next request.
    pub(super) next: Timestamp,
    pub(super) failures: u8,
    /// The answer of the CA, until the status contains it.
    pub(super) answer: Option<Box<Suggested>>,
}
