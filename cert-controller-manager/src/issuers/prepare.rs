//! Prepares an issuer according to its kind.

use super::{controller::Controller, error::IssuerError, outcome::Facts};
use crate::api::{Issuer, IssuerKey};

impl Controller {
    /// Prepares the issuer according to its kind. Returns the details for the status.
    pub(super) async fn prepare(
        &self,
        key: &IssuerKey,
        issuer: &Issuer,
    ) -> Result<Facts, IssuerError> {
        let spec = &issuer.spec;
        match (&spec.acme, &spec.ca, &spec.self_signed) {
            (Some(acme), None, None) => self.prepare_acme(key, issuer, acme).await,
            (None, Some(ca), None) => self.prepare_ca(key, issuer, ca).await,
            (None, None, Some(_)) => Ok(self.prepare_self_signed(key)),
            (None, None, None) => Err(IssuerError::InvalidConfig(
                "concrete issuer unspecified: set acme, ca or selfSigned".to_owned(),
            )),
            _ => Err(IssuerError::InvalidConfig(
                "invalid issuer spec: either ACME, CA or selfSigned can be set".to_owned(),
            )),
        }
    }
}
