//! What a CA says about the renewal of a certificate (RFC 9773).

use jiff::Timestamp;

/// When a CA wants a certificate to be renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenewalInfo {
    /// First instant of the suggested window.
    pub start: Timestamp,
    /// Last instant of the suggested window.
    pub end: Timestamp,
    /// Where people can read why.
    pub explanation_url: Option<String>,
    /// When to ask again: the CA's Retry-After, within reason.
    pub ask_again: Timestamp,
}
