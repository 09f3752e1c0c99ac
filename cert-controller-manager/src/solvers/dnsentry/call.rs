//! Calls to the API server about one entry: each has a deadline, and each failure says whose turn it
//! is to do something.

use std::{future::Future, time::Duration};

use cert_lib::solve::SolveError;
use tokio::time::timeout;

use crate::{api::ObjectKey, runtime::errors::brief};

/// Why a call to the API server brought nothing.
pub(super) enum Fault {
    TimedOut,
    /// The error and its HTTP status, 0 when there was no answer.
    Kube(kube::Error, u16),
}

pub(super) async fn within<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
    let result = timeout(DEADLINE, call).await.map_err(|_| Fault::TimedOut)?;
    result.map_err(|error| {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        Fault::Kube(error, code)
    })
}

impl Fault {
    pub(super) fn explain(self, verb: &str, key: &ObjectKey) -> SolveError {
        let ObjectKey { namespace, .. } = key;
        match self {
            Self::TimedOut => SolveError::Unavailable(format!(
                "cannot {verb} DNSEntry {key}: no answer within {} s",
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

/// For every call.
const DEADLINE: Duration = Duration::from_secs(10);
