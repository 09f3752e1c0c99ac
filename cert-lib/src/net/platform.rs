//! The trusted roots of this machine.

use std::sync::Arc;

use rustls::{Error, client::danger::ServerCertVerifier, crypto::aws_lc_rs};
use rustls_platform_verifier::Verifier;

/// A verifier that trusts the roots of this machine.
///
/// # Errors
/// When the machine has none.
pub fn platform_verifier() -> Result<Arc<dyn ServerCertVerifier>, Error> {
    Ok(Arc::new(Verifier::new(Arc::new(aws_lc_rs::default_provider()))?))
}
