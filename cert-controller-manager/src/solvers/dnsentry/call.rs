//! Calls to the API server for one entry, with a deadline, and their errors.

use std::{future::Future, time::Duration};

use cert_lib::solve::SolveError;
use tokio::time::timeout;

use crate::{api::ObjectKey, runtime::errors::brief};

/// Why a call failed.
pub(super) enum CallError {
    TimedOut,
    /// The error and its HTTP status, 0 without a response.
    Kube(kube::Error, u16),
}

pub(super) async fn with_deadline<T>(
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, CallError> {
    let result = timeout(DEADLINE, call).await.map_err(|_| CallError::TimedOut)?;
    result.map_err(|error| {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        CallError::Kube(error, code)
    })
}

impl CallError {
    pub(super) fn explain(self, verb: &str, key: &ObjectKey) -> SolveError {
        let ObjectKey { namespace, .. } = key;
        match self {
            Self::TimedOut => SolveError::Unavailable(format!(
                "cannot {verb} DNSEntry {key}: no answer with_deadline {} s",
                DEADLINE.as_secs()
            )),
            Self::Kube(_, 403) => SolveError::Misconfigured(format!(
                "cannot {verb} DNSEntry {key}: the right to {verb} \
                 dnsentries.dns.gardener.cloud in namespace {namespace} is missing"
            )),
            Self::Kube(_, 404) => SolveError::Unavailable(format!(
                "cannot {verb} DNSEntry {key}: the cluster has no DNSEntry resource or no \
                 namespace {namespace}"
            )),
            Self::Kube(error, _) => {
                SolveError::Unavailable(format!("cannot {verb} DNSEntry {key}: {}", brief(&error)))
            }
        }
    }
}

/// Deadline of a call.
const DEADLINE: Duration = Duration::from_secs(10);
