//! Why a request to the CA has no result.

use crate::{
    acme::{
        jws::SignError,
        problem::{Problem, ProblemScope},
    },
    model::disposition::{Disposition, RetrySchedule},
    net::HttpError,
};

/// Why a request has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// No response arrived.
    #[error(transparent)]
    Transport(#[from] HttpError),
    /// The CA refused.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// A response that is not as RFC 8555 requires.
    #[error("the answer to {url} cannot be used: {why}")]
    Unusable {
        /// URL of the request.
        url: String,
        /// What is missing or wrong.
        why: String,
    },
    /// The request could not be signed.
    #[error(transparent)]
    Unsigned(#[from] SignError),
}

impl RequestError {
    /// Who must act before a retry can succeed.
    #[must_use]
    pub fn disposition(&self, scope: ProblemScope) -> Disposition {
        match self {
            Self::Problem(problem) => problem.disposition(scope),
            // This includes an untrusted certificate: the operator of the server may replace it.
            Self::Transport(_) | Self::Unusable { .. } | Self::Unsigned(_) => {
                Disposition::Retry(RetrySchedule::Transport)
            }
        }
    }

    /// Whether the request was never sent, so that the CA did nothing for it.
    #[must_use]
    pub(crate) fn is_unsent(&self) -> bool {
        match self {
            Self::Transport(error) => error.is_unsent(),
            Self::Unsigned(_) => true,
            Self::Problem(_) | Self::Unusable { .. } => false,
        }
    }

    /// Whether the requested resource does not exist, or no longer.
    #[must_use]
    pub(crate) fn is_gone(&self) -> bool {
        self.problem().is_some_and(Problem::is_gone)
    }

    /// The problem document of the CA, if it sent one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            Self::Transport(_) | Self::Unusable { .. } | Self::Unsigned(_) => None,
        }
    }
}
