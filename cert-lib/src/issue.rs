//! Issuing: the trait that every kind of issuer implements, and the token that makes it resumable.

pub mod acme;
pub mod ca;
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
        name::DnsName,
        request::Request,
    },
    solve::Owner,
};

pub use limit_scope::LimitScope;
pub use progress::{Progress, ProgressError};
pub use renewal::RenewalInfo;
pub use revocation::RevocationReason;

mod limit_scope;
pub(crate) mod private_ca;
mod progress;

/// Something that issues certificates.
///
/// Nothing here waits. [`advance`](Issuer::advance) does what can be done at once and says when it
/// wants to be called again; whoever calls it owns the time.
#[async_trait]
pub trait Issuer: Send + Sync {
    /// Takes `request` as many protocol steps further as possible without waiting.
    ///
    /// Start with `from: None`. When it returns [`Advance::Waiting`], store
    /// [`Progress::encode`] durably if it changed, and call again with that progress at `until` or
    /// when something happened that the order may be waiting for. *Idempotent* over crashes: with
    /// an older stored progress it finds out how far the order really is.
    ///
    /// # Errors
    /// See [`IssueError`]. Where [`IssueError::ends_order`] is true, [`abandon`](Issuer::abandon)
    /// the progress; otherwise keep it, or rather [`IssueError::progress`], and call again when
    /// [`IssueError::disposition`] says.
    async fn advance(
        &self,
        request: &Request,
        from: Option<Progress>,
    ) -> Result<Advance, IssueError>;

    /// Gives up an order: takes its proofs away, and gives back what it had yet to prove.
    /// *Idempotent*.
    ///
    /// # Errors
    /// When the proofs could not be taken away: call again later.
    async fn abandon(&self, owner: &Owner, progress: &Progress) -> Result<(), IssueError>;

    /// Tells everybody that `certificate` must not be trusted any more (RFC 8555 section 7.6).
    /// *Idempotent*: one that is revoked already is fine.
    ///
    /// An issuer that publishes nothing about its certificates, as those whose key we hold, cannot.
    ///
    /// # Errors
    /// When the issuer cannot revoke, or did not.
    async fn revoke(
        &self,
        _certificate: &CertificateDer<'_>,
        _why: RevocationReason,
    ) -> Result<(), IssueError> {
        let why = "certificate revocation only supported for issuers of type ACME";
        Err(IssueError::fatal(why, Disposition::FixRequest))
    }

    /// When the CA wants the certificate to be renewed (RFC 9773); `None` where it does not say, as
    /// where nobody has an opinion but ourselves.
    ///
    /// # Errors
    /// When the CA was asked and did not answer well. Nothing depends on it: without an answer, a
    /// certificate is renewed by its age.
    async fn renewal_info(&self, _certificate: &CertId) -> Result<Option<RenewalInfo>, IssueError> {
        Ok(None)
    }
}

/// Makes the keys of certificates. An RSA key takes a processor for up to two seconds, so a program
/// with much to do brings a maker that does it elsewhere.
#[async_trait]
pub trait KeyGenerator: Send + Sync {
    /// A new key.
    ///
    /// # Errors
    /// When there is none to be had.
    async fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeyError>;
}

/// Makes keys on the spot: for tests, examples and programs that issue one certificate.
#[derive(Clone, Copy, Debug, Default)]
pub struct InlineKeyGenerator;

#[async_trait]
impl KeyGenerator for InlineKeyGenerator {
    async fn generate(&self, kind: KeyType) -> Result<PrivateKey, KeyError> {
        PrivateKey::generate(kind)
    }
}

/// How far an order has come.
#[derive(Debug)]
pub enum Advance {
    /// Done. The proofs are gone.
    Issued(Bundle),
    /// Something must happen first.
    Waiting {
        /// What the next call needs.
        progress: Progress,
        /// For people.
        doing: Phase,
        /// When to call again if nothing happens before. `now` or earlier means: as soon as
        /// `progress` is stored.
        until: Timestamp,
    },
}

/// What an order is doing, for people.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Phase {
    /// The order is placed; its progress must be stored before it goes on.
    Ordered,
    /// The proofs are published, but not everybody sees them yet; the text says who does not.
    Propagating(String),
    /// The CA is looking at the proofs.
    Validating,
    /// The CA is signing.
    Signing,
    /// The CA takes its time; the order is of this instant.
    Delayed(Timestamp),
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ordered => f.write_str("certificate requested, preparing DNS01 challenge"),
            Self::Propagating(why) => {
                write!(f, "certificate requested, waiting for DNS01 challenge: {why}")
            }
            Self::Validating => {
                f.write_str("certificate requested, waiting for the CA to validate the challenge")
            }
            Self::Signing => f.write_str("certificate requested, waiting for the CA to sign"),
            Self::Delayed(since) => {
                write!(f, "certificate requested on {since:.0}, and the CA is not done with it yet")
            }
        }
    }
}

/// Who must do what before another try can succeed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disposition {
    /// Try again, at the pace of this ladder.
    Retry(RetrySchedule),
    /// The CA said when.
    Until(Timestamp),
    /// Somebody must change the issuer.
    FixIssuer,
    /// Somebody must change what is requested.
    FixRequest,
}

/// How fast to try again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RetrySchedule {
    /// The network or the CA had a hiccup: seconds to minutes.
    Transport,
    /// The CA found the proof wanting: 1, 10, 100 minutes, then daily, which stays below
    /// Let's Encrypt's five failures per name and hour.
    Validation,
    /// The CA does not listen before somebody has acted elsewhere: once a day.
    Daily,
}

/// Why an order could not go on.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct IssueError {
    message: String,
    disposition: Disposition,
    ends_order: bool,
    limit: Option<LimitScope>,
    unproved: Vec<DnsName>,
    /// The CA has not seen what was asked: anybody else would have met the same.
    unheard: bool,
    /// What was asked never left.
    unsent: bool,
    /// The CA met a limit from which it exempts renewals.
    denies_renewal: bool,
    /// The CA has something against the signing request, so perhaps against its key.
    refuses_csr: bool,
    progress: Option<Box<Progress>>,
}

impl IssueError {
    /// The order is over; what happens next is up to a new one.
    #[must_use]
    pub fn fatal(message: impl Into<String>, disposition: Disposition) -> Self {
        Self::new(message.into(), disposition, true)
    }

    /// The order stands; the same step can be tried again.
    #[must_use]
    pub fn passing(message: impl Into<String>, disposition: Disposition) -> Self {
        Self::new(message.into(), disposition, false)
    }

    fn new(message: String, disposition: Disposition, ends_order: bool) -> Self {
        Self {
            message,
            disposition,
            ends_order,
            limit: None,
            unproved: Vec::new(),
            unheard: false,
            unsent: false,
            denies_renewal: false,
            refuses_csr: false,
            progress: None,
        }
    }

    /// The CA has not seen what was asked.
    #[must_use]
    pub(crate) fn unheard(self, unheard: bool) -> Self {
        Self { unheard, ..self }
    }

    /// Whether the CA has not seen what was asked, so that anybody else would have met the same.
    pub(crate) fn is_unheard(&self) -> bool {
        self.unheard
    }

    /// What was asked never left.
    #[must_use]
    pub(crate) fn unsent(self, unsent: bool) -> Self {
        Self { unsent, ..self }
    }

    /// Whether it is certain that the CA was not asked: where no order was running, there is none now.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    /// The CA met a limit from which it exempts renewals.
    #[must_use]
    pub(crate) fn denying_renewal(self, denies_renewal: bool) -> Self {
        Self { denies_renewal, ..self }
    }

    /// Whether the CA has let know that this order is no renewal, by a limit from which it exempts
    /// those.
    #[must_use]
    pub fn denies_renewal(&self) -> bool {
        // What was not sent was refused for the sake of another one.
        self.denies_renewal && !self.unsent
    }

    /// The CA has something against the signing request.
    #[must_use]
    pub(crate) fn refusing_csr(self, refuses_csr: bool) -> Self {
        Self { refuses_csr, ..self }
    }

    /// Whether the CA has something against the signing request (`badCSR`), as where its key is known to
    /// have leaked: the same key does not help.
    #[must_use]
    pub fn refuses_csr(&self) -> bool {
        self.refuses_csr
    }

    /// It is a limit of the CA that concerns others, too.
    #[must_use]
    pub fn limited(self, about: Option<LimitScope>) -> Self {
        Self { limit: about, ..self }
    }

    /// The CA found the proofs of these names wanting, and counts that.
    #[must_use]
    pub fn with_unproved(self, names: Vec<DnsName>) -> Self {
        Self { unproved: names, ..self }
    }

    /// The order stands, and some steps were taken before the one that failed.
    #[must_use]
    pub(crate) fn with_progress(self, progress: Progress) -> Self {
        Self { progress: Some(Box::new(progress)), ..self }
    }

    /// Where the order stands, if it stands: with it the next call repeats only what failed. It is
    /// stored by the same bytes as the progress that the failed call was given, so nothing needs to be
    /// written.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.progress.as_deref()
    }

    /// Whom it concerns besides this order, where the CA's limit was met.
    #[must_use]
    pub fn limit(&self) -> Option<&LimitScope> {
        self.limit.as_ref()
    }

    /// The names whose proofs the CA found wanting.
    #[must_use]
    pub fn unproved(&self) -> &[DnsName] {
        &self.unproved
    }

    /// Who must do what before another try can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        self.disposition
    }

    /// Whether the order is over.
    #[must_use]
    pub fn ends_order(&self) -> bool {
        self.ends_order
    }
}
