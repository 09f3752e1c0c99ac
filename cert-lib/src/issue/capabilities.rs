//! What a kind of issuer can do and needs. Callers ask for these properties and never for the kind,
//! so that a new kind changes no caller.

/// The properties of an issuer. The default has none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties, not a state")]
pub struct Capabilities {
    /// It requires a proof of control over each name, which a [`Solver`](crate::solve::Solver)
    /// publishes.
    pub proves_control: bool,
    /// Its orders count against a quota and the rate limits of a CA.
    pub limits_orders: bool,
    /// It has renewal information (RFC 9773): see [`Issuer::renewal_info`](super::Issuer::renewal_info).
    pub renewal_info: bool,
    /// It revokes certificates: see [`Issuer::revoke`](super::Issuer::revoke).
    pub revokes: bool,
    /// It honors the [`Extras`](crate::model::request::Extras) of a request. Other issuers choose
    /// validity and usage themselves.
    pub honors_extras: bool,
    /// The key of a certificate signs that certificate. So the issuer always creates the key itself,
    /// even for a signing request, and each certificate is a CA.
    pub self_signs: bool,
}

impl Capabilities {
    /// Whether a trusted record of each certificate is needed: a revocation needs its content, and
    /// limits need to know which certificates were issued.
    #[must_use]
    pub fn needs_record(self) -> bool {
        self.revokes || self.limits_orders
    }
}
