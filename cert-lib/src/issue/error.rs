//! Why an order did not go on, and what the caller needs to know about it.

use jiff::Timestamp;

use super::Progress;
use crate::{
    model::{
        disposition::{Disposition, RetrySchedule},
        limit_scope::LimitScope,
        name::DnsName,
    },
    solve::SolveError,
};

/// Why an order did not go on.
///
/// The order stands after the first four variants. All others end it, except that
/// [`NotSent`](Self::NotSent) does what its cause does.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IssueError {
    /// The CA did not answer. Any other request would have failed, too.
    #[error("{message}")]
    Unreachable {
        /// What failed, and why.
        message: String,
        /// When a server in front of the CA allows the next request.
        retry_at: Option<Timestamp>,
        /// See [`IssueError::progress`].
        progress: Option<Box<Progress>>,
    },
    /// The CA or a solver failed in a way that passes.
    #[error("{message}")]
    Transient {
        /// What failed, and why.
        message: String,
        /// When the CA allows the next request.
        retry_at: Option<Timestamp>,
        /// See [`IssueError::progress`].
        progress: Option<Box<Progress>>,
    },
    /// A limit of the CA is reached.
    #[error("{message}")]
    RateLimited {
        /// What failed, and why.
        message: String,
        /// When the limit ends, if the CA named an instant.
        until: Option<Timestamp>,
        /// The orders that the limit concerns besides this one.
        scope: Option<LimitScope>,
        /// Whether the CA named one of its published limits, of which an estimate may exist.
        is_published: bool,
        /// See [`IssueError::progress`].
        progress: Option<Box<Progress>>,
    },
    /// The CA refuses these names to this account until a person has visited `url`. The terms of
    /// service of the CA, which RFC 8555 calls `userActionRequired`, are an
    /// [`InvalidIssuer`](Self::InvalidIssuer).
    #[error("{message}")]
    UserActionRequired {
        /// What failed, and why.
        message: String,
        /// The page of the CA.
        url: Option<String>,
        /// See [`IssueError::progress`].
        progress: Option<Box<Progress>>,
    },
    /// The proofs were not visible, or the CA did not accept them.
    #[error("{message}")]
    ValidationFailed {
        /// The CA's reasons.
        message: String,
        /// The names whose failed validation the CA counts.
        names: Vec<DnsName>,
        /// What the CA's reasons call for.
        disposition: Disposition,
    },
    /// The CA does not accept the signing request (`badCSR`), perhaps because its key has leaked: the
    /// same key does not help.
    #[error("{0}")]
    BadCsr(String),
    /// The request must be changed.
    #[error("{0}")]
    InvalidRequest(String),
    /// The issuer must be changed.
    #[error("{0}")]
    InvalidIssuer(String),
    /// The order ended, and another attempt may count at the CA: it waits as after a failed
    /// validation.
    #[error("{0}")]
    OrderFailed(String),
    /// The order cannot be used any more. A new order is all it takes.
    #[error("{0}")]
    OrderGone(String),
    /// It failed for this reason before the CA was asked: where no order ran, there is none.
    #[error(transparent)]
    NotSent(Box<IssueError>),
}

impl IssueError {
    pub(crate) fn transient(message: impl Into<String>) -> Self {
        Self::Transient { message: message.into(), retry_at: None, progress: None }
    }

    /// The CA was not asked.
    pub(crate) fn not_sent(self) -> Self {
        match self {
            Self::NotSent(_) => self,
            cause => Self::NotSent(Box::new(cause)),
        }
    }

    /// The error itself, whether or not the CA was asked.
    pub(crate) fn cause(&self) -> &Self {
        match self {
            Self::NotSent(cause) => cause.cause(),
            cause => cause,
        }
    }

    /// As [`cause`](Self::cause).
    pub(crate) fn into_cause(self) -> Self {
        match self {
            Self::NotSent(cause) => cause.into_cause(),
            cause => cause,
        }
    }

    /// What must happen before another attempt can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { retry_at, .. } | Self::Transient { retry_at, .. } => {
                retry_at.map_or(Disposition::Retry(RetrySchedule::Transport), Disposition::Until)
            }
            // A limit without a time is no invitation to hurry.
            Self::RateLimited { until, .. } => {
                until.map_or(Disposition::Retry(RetrySchedule::Validation), Disposition::Until)
            }
            Self::UserActionRequired { .. } => Disposition::Retry(RetrySchedule::Daily),
            Self::ValidationFailed { disposition, .. } => *disposition,
            Self::BadCsr(_) | Self::InvalidRequest(_) => Disposition::FixRequest,
            Self::InvalidIssuer(_) => Disposition::FixIssuer,
            Self::OrderFailed(_) => Disposition::Retry(RetrySchedule::Validation),
            Self::OrderGone(_) => Disposition::Retry(RetrySchedule::Transport),
            Self::NotSent(cause) => cause.disposition(),
        }
    }

    /// Whether the order is over.
    #[must_use]
    pub fn ends_order(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Transient { .. }
            | Self::RateLimited { .. }
            | Self::UserActionRequired { .. } => false,
            Self::ValidationFailed { .. }
            | Self::BadCsr(_)
            | Self::InvalidRequest(_)
            | Self::InvalidIssuer(_)
            | Self::OrderFailed(_)
            | Self::OrderGone(_) => true,
            Self::NotSent(cause) => cause.ends_order(),
        }
    }

    /// Whether it is certain that the CA was not asked: where no order ran, there is none.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::NotSent(_))
    }

    /// The orders that the limit concerns which was met, besides this one.
    #[must_use]
    pub fn limit(&self) -> Option<&LimitScope> {
        match self.cause() {
            Self::RateLimited { scope, .. } => scope.as_ref(),
            _ => None,
        }
    }

    /// Whether the CA named one of its published limits. Not where nothing was sent: then another order
    /// met the limit.
    #[must_use]
    pub fn is_published_limit(&self) -> bool {
        matches!(self, Self::RateLimited { is_published: true, .. })
    }

    /// Whether the CA does not accept the signing request.
    #[must_use]
    pub fn refuses_csr(&self) -> bool {
        matches!(self, Self::BadCsr(_))
    }

    /// The names whose failed validation the CA counts.
    #[must_use]
    pub fn unproved(&self) -> &[DnsName] {
        match self {
            Self::ValidationFailed { names, .. } => names,
            _ => &[],
        }
    }

    /// Where the order stands, if some steps were taken before the one that failed: with it the next
    /// call repeats only what failed. It [is stored by](Progress::is_stored_by) the same bytes as the
    /// progress that the failed call was given, so nothing needs to be written.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        match self.cause() {
            Self::Unreachable { progress, .. }
            | Self::Transient { progress, .. }
            | Self::RateLimited { progress, .. }
            | Self::UserActionRequired { progress, .. } => progress.as_deref(),
            _ => None,
        }
    }

    /// The order stands there.
    pub(crate) fn with_progress(mut self, stands: Progress) -> Self {
        let mut cause = &mut self;
        while let Self::NotSent(inner) = cause {
            cause = inner;
        }
        if let Self::Unreachable { progress, .. }
        | Self::Transient { progress, .. }
        | Self::RateLimited { progress, .. }
        | Self::UserActionRequired { progress, .. } = cause
        {
            *progress = Some(Box::new(stands));
        }
        self
    }
}

/// The proofs of an order could not be removed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("taking the proofs away failed: {0}")]
pub struct CleanupError(pub(crate) SolveError);

impl CleanupError {
    /// What must happen before another attempt can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self.0 {
            SolveError::Unavailable(_) | SolveError::CredentialRefused(_) => {
                Disposition::Retry(RetrySchedule::Transport)
            }
            SolveError::Misconfigured(_) => Disposition::Retry(RetrySchedule::Validation),
        }
    }
}
