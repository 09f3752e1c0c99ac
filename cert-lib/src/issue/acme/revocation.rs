//! Revocation (RFC 8555 section 7.6).

use rustls_pki_types::CertificateDer;

use crate::{
    acme::account::Account,
    issue::{Disposition, IssueError, RevocationReason},
};

/// Revokes a certificate in the name of the account that it was issued to.
pub(super) async fn revoke(
    _account: &Account,
    _certificate: &CertificateDer<'_>,
    _why: RevocationReason,
) -> Result<(), IssueError> {
    Err(IssueError::fatal("revocation is not there yet", Disposition::FixRequest))
}
