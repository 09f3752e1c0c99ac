//! Why an issuer is not ready.

use cert_lib::{
    acme::{account::AccountError, client::RequestError, problem::Problem},
    issue::{Disposition, RetrySchedule},
    net::HttpError,
};
use jiff::Timestamp;

use super::limits::LONGEST;
use crate::{
    api::{
        issuer::{IssuerStatus, ServerWait},
        time::seconds_up,
    },
    runtime::errors::brief,
};

/// Requests to clusters and CAs are retried.
pub(super) const TRANSPORT: Disposition = Disposition::Retry(RetrySchedule::Transport);

/// Why an issuer is not ready.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The configuration must be changed, as the message says.
    #[error("{0}")]
    InvalidConfig(String),
    /// The CA has deactivated the account.
    #[error("{0}")]
    Deactivated(String),
    /// The CA demanded a wait.
    #[error("{message}")]
    RateLimited {
        /// What failed, and why.
        message: String,
        /// When requests are permitted again.
        until: Timestamp,
        /// URL of the ACME directory.
        server: String,
        /// Hash of the Secret with the account key.
        secret_hash: String,
    },
    /// A request to the CA or to a cluster failed.
    #[error("{message}")]
    Failed {
        /// What failed, and why.
        message: String,
        /// When to retry.
        disposition: Disposition,
    },
}

impl IssuerError {
    pub(super) fn cluster(what: &str, error: &kube::Error) -> Self {
        let message = format!("{what} failed: {}", brief(error));
        Self::Failed { message, disposition: TRANSPORT }
    }

    /// The error for a failed request to the CA, with a hint.
    pub(super) fn account(what: &str, error: &AccountError) -> Self {
        let hint = match error {
            AccountError::BindingRequired => {
                ": set externalAccountBinding to the key identifier that the CA gave you and the \
                 Secret with the key"
            }
            AccountError::Request(RequestError::Transport(HttpError::Untrusted { .. })) => {
                ": add the certificate of its CA with --ca-certificates"
            }
            _ if error.problem().map(Problem::word) == Some(USER_ACTION_REQUIRED) => AGREE_TO_TERMS,
            _ => "",
        };
        let message = format!("{what} failed: {error}{hint}");
        match error.is_deactivated() {
            true => Self::Deactivated(message),
            false => Self::Failed { message, disposition: error.disposition() },
        }
    }

    /// Turns a wait demanded by the CA into [`RateLimited`](Self::RateLimited) for this server and
    /// key.
    pub(super) fn with_server(self, server: &str, secret_hash: &str, now: Timestamp) -> Self {
        match self {
            Self::Failed { message, disposition: Disposition::Until(until) } => {
                let latest = now.saturating_add(LONGEST).unwrap_or(until);
                let (server, secret_hash) = (server.to_owned(), secret_hash.to_owned());
                Self::RateLimited { message, until: until.min(latest), server, secret_hash }
            }
            other => other,
        }
    }

    /// The wait that the status stores, if it is for this server and key.
    pub(super) fn from_status(
        status: &IssuerStatus,
        server: &str,
        secret_hash: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let rest = status.rest.as_ref()?;
        let until: Timestamp = rest.until.parse().ok()?;
        let applies = rest.server == server && rest.secret_hash == secret_hash && now < until;
        let message = status.message.clone().unwrap_or_default();
        let disposition = Disposition::Until(until);
        applies.then(|| Self::Failed { message, disposition }.with_server(server, secret_hash, now))
    }

    /// The wait that the status stores.
    pub(super) fn server_wait(&self) -> Option<ServerWait> {
        match self {
            Self::RateLimited { until, server, secret_hash, .. } => Some(ServerWait {
                until: seconds_up(*until),
                server: server.clone(),
                secret_hash: secret_hash.clone(),
            }),
            Self::Failed { .. } | Self::Deactivated(_) | Self::InvalidConfig(_) => None,
        }
    }

    /// The error for an order that failed because the terms of the CA have changed.
    pub(super) fn terms_changed(why: &str, until: Timestamp) -> Option<Self> {
        why.contains(USER_ACTION_REQUIRED).then(|| Self::Failed {
            message: format!("{why}{AGREE_TO_TERMS}"),
            disposition: Disposition::Until(until),
        })
    }
}

/// RFC 8555 section 7.3.3. Only a person can agree to changed terms.
const USER_ACTION_REQUIRED: &str = "userActionRequired";
const AGREE_TO_TERMS: &str = ": open that page and agree to the terms of the CA; the manager tries again \
     daily, or at once with the annotation gardener.cloud/operation: reconcile";

impl From<AccountError> for IssuerError {
    fn from(error: AccountError) -> Self {
        Self::account("creating registration user", &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_changed_terms_says_what_to_do() {
        let until = Timestamp::UNIX_EPOCH;
        assert!(IssuerError::terms_changed("rateLimited: no", until).is_none());
        let error =
            IssuerError::terms_changed("userActionRequired: new terms, see https://ca/tos", until);
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            message.starts_with("userActionRequired: new terms, see https://ca/tos: open that")
        );
    }
}
