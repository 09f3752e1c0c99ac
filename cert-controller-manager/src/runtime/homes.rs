//! The clusters that hold Certificates and CertificateRevocations.

use kube::Client;

use super::report::Reports;
use crate::api::Home;

/// The clusters that hold Certificates.
pub struct Homes {
    /// [`Home::Source`]
    pub source: Place,
    /// [`Home::Target`]; the same where the clusters are one, and then never asked for.
    pub target: Place,
}

/// A cluster that holds Certificates.
pub struct Place {
    /// To read and write them.
    pub client: Client,
    /// Events on them.
    pub reports: Reports,
}

impl Homes {
    /// The cluster of `home`.
    #[must_use]
    pub fn at(&self, home: Home) -> &Place {
        match home {
            Home::Source => &self.source,
            Home::Target => &self.target,
        }
    }
}
