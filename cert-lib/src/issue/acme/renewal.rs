//! Renewal information (RFC 9773 section 4).

use crate::{
    acme::account::Account,
    issue::{IssueError, RenewalInfo},
    model::cert_id::CertId,
};

/// Asks the CA when it wants the certificate to be renewed.
pub(super) async fn ask(
    _account: &Account,
    _certificate: &CertId,
) -> Result<Option<RenewalInfo>, IssueError> {
    Ok(None)
}
