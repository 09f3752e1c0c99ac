//! What a CA says about the renewal of a certificate (RFC 9773).

use jiff::Timestamp;

use crate::model::disposition::{Disposition, RetrySchedule};

/// When a CA wants a certificate to be renewed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RenewalInfo {
    /// First instant of the suggested window.
    pub start: Timestamp,
    /// Last instant of the suggested window.
    pub end: Timestamp,
    /// A page that explains why.
    pub explanation_url: Option<String>,
    /// When to ask again: the CA's Retry-After, within bounds.
    pub ask_again: Timestamp,
}

/// Why there is no renewal information although the CA offers it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenewalInfoError {
    /// The CA gave no usable answer.
    #[error("{message}")]
    Failed {
        /// What failed, and why.
        message: String,
        /// When the CA allows the next request.
        retry_at: Option<Timestamp>,
    },
    /// The suggested window ends before it begins.
    #[error("the CA suggests a renewal from {start} to {end}, which is no window")]
    NoWindow {
        /// Its first instant.
        start: Timestamp,
        /// Its last instant.
        end: Timestamp,
    },
}

impl RenewalInfoError {
    /// What must happen before another attempt can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Failed { retry_at: Some(time), .. } => Disposition::Until(*time),
            Self::Failed { retry_at: None, .. } | Self::NoWindow { .. } => {
                Disposition::Retry(RetrySchedule::Transport)
            }
        }
    }
}
