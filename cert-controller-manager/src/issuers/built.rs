//! An ACME issuer that is in use. Values only.

use std::sync::Arc;

use cert_lib::acme::client::Client as AcmeClient;

use crate::api::issuer::AcmeSpec;

/// An issuer and what it was built from. An unchanged issuer keeps its connections and nonces.
pub(super) struct BuiltIssuer {
    pub(super) inputs: IssuerInputs,
    pub(super) client: Arc<AcmeClient>,
}

/// What an issuer was built from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct IssuerInputs {
    pub(super) server: String,
    pub(super) secret_hash: String,
    pub(super) account: String,
    pub(super) profile: Option<String>,
    pub(super) preferred_chain: Option<String>,
    pub(super) precheck_nameservers: Option<Vec<String>>,
    /// Digest of the solvers and their credentials.
    pub(super) solvers: String,
}

impl IssuerInputs {
    /// The inputs of an issuer with this URL of its account.
    pub(super) fn of(spec: &AcmeSpec, secret_hash: String, account: &str, solvers: String) -> Self {
        Self {
            server: spec.server.clone(),
            secret_hash,
            account: account.to_owned(),
            profile: spec.profile.clone(),
            preferred_chain: spec.preferred_chain.clone(),
            precheck_nameservers: spec.precheck_nameservers.clone(),
            solvers,
        }
    }
}
