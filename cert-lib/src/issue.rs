//! Issuing: the trait that every kind of issuer implements, the token that makes an order resumable,
//! and the loop that drives it.

pub mod acme;
pub mod ca;
pub mod driver;
pub mod renewal;
pub mod revocation;
pub mod self_signed;
pub mod verify;
pub mod x509;

use async_trait::async_trait;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;

use crate::{
    model::{
        bundle::Bundle,
        cert_id::CertId,
        key::{KeyError, KeyType, PrivateKey},
        request::Request,
    },
    solve::Owner,
};

pub use crate::model::{
    disposition::{Disposition, RetrySchedule},
    limit_scope::LimitScope,
    phase::Phase,
};
pub use capabilities::Capabilities;
pub use error::{CleanupError, IssueError};
pub use progress::{Progress, ProgressError};
pub use renewal::{RenewalInfo, RenewalInfoError};
pub use revocation::{RevocationReason, RevokeError};

mod capabilities;
mod error;
pub(crate) mod private_ca;
mod progress;

/// Issues certificates.
///
/// No method waits. [`advance`](Issuer::advance) does what can be done at once and returns when to
/// call it again. [`driver::drive`] is the loop around it.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// What this issuer can do and needs. Constant.
    fn capabilities(&self) -> Capabilities;

    /// Takes `request` as many protocol steps further as possible without waiting.
    ///
    /// Start with `from: None`. When it returns [`Advance::Waiting`], store
    /// [`Progress::encode`] durably if it changed, and call again with that progress at `until` or
    /// when an event happened that the order may be waiting for. *Idempotent* over crashes: with
    /// an older stored progress it finds out how far the order really is.
    ///
    /// # Errors
    /// See [`IssueError`]. Where [`IssueError::ends_order`] is true, [`abandon`](Issuer::abandon)
    /// the progress. Otherwise continue with [`IssueError::progress`], or the progress from before,
    /// when [`IssueError::disposition`] allows it.
    async fn advance(
        &self,
        request: &Request,
        from: Option<Progress>,
    ) -> Result<Advance, IssueError>;

    /// Abandons an order: removes its proofs, and deactivates the authorizations that are still
    /// pending. *Idempotent*.
    ///
    /// # Errors
    /// When the proofs could not be removed: call again later.
    async fn abandon(&self, owner: &Owner, progress: &Progress) -> Result<(), CleanupError>;

    /// Revokes `certificate` (RFC 8555 section 7.6). *Idempotent*: a certificate that is revoked
    /// already is no error.
    ///
    /// An issuer that publishes no revocations cannot do it: those whose key this program holds.
    ///
    /// # Errors
    /// When the issuer cannot revoke, or did not.
    async fn revoke(
        &self,
        _certificate: &CertificateDer<'_>,
        _why: RevocationReason,
    ) -> Result<(), RevokeError> {
        let message = "certificate revocation only supported for issuers of type ACME".to_owned();
        Err(RevokeError::Refused(message))
    }

    /// When the CA wants the certificate to be renewed (RFC 9773); `None` where it has no renewal
    /// information.
    ///
    /// # Errors
    /// When the CA gave no usable answer. Nothing depends on it: without an answer, a certificate is
    /// renewed by its age.
    async fn renewal_info(
        &self,
        _certificate: &CertId,
    ) -> Result<Option<RenewalInfo>, RenewalInfoError> {
        Ok(None)
    }
}

/// Generates the keys of certificates. An RSA key occupies a processor for up to two seconds, so a
/// busy program implements this on a thread pool.
#[async_trait]
pub trait KeyGenerator: Send + Sync {
    /// A new key.
    ///
    /// # Errors
    /// When no key could be generated.
    async fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeyError>;
}

/// Generates keys in the calling task: for tests, examples and programs that issue one certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineKeyGenerator;

#[async_trait]
impl KeyGenerator for InlineKeyGenerator {
    async fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeyError> {
        PrivateKey::generate(kind)
    }
}

/// What a call of [`Issuer::advance`] achieved.
#[derive(Debug)]
pub enum Advance {
    /// The certificate is issued, and the proofs are removed.
    Issued(Bundle),
    /// The order waits.
    Waiting {
        /// What the next call needs.
        progress: Progress,
        /// What it waits for.
        doing: Phase,
        /// When to call again at the latest. `now` or earlier means: as soon as `progress` is
        /// stored.
        until: Timestamp,
    },
}
