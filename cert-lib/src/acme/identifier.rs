//! The name or address that an authorization is about.

use serde::Deserialize;

use super::bounds;

/// A name or address in a certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, serde::Serialize)]
pub struct Identifier {
    /// `dns` or `ip`.
    #[serde(rename = "type", deserialize_with = "bounds::word")]
    pub kind: String,
    /// The name. An authorization for a wildcard has it without `*.` (section 7.1.4).
    #[serde(deserialize_with = "bounds::word")]
    pub value: String,
}
