//! Computes and publishes the status of a CertificateRevocation.

use std::collections::BTreeSet;

use cert_lib::plan::backoff::Backoff;
use jiff::Timestamp;
use kube::Resource;

use super::{
    controller::Controller, index::RevocationKey, observed::Lists, plan::Ending, trim::MAX_MESSAGE,
};
use crate::{
    api::{
        CertificateRevocation,
        certificate::BackoffState,
        revocation::{CertificateRevocationStatus, RevokedObjects, RevokedSecrets},
        time::{seconds, seconds_up},
        trim::cut,
    },
    config::{duration, go_duration},
    runtime::status_writer::publish,
};

/// The states of a revocation, as in upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// In progress.
    Pending,
    /// Refused, or no certificate could be revoked.
    Error,
    /// All certificates are revoked.
    Applied,
    /// Some certificates are revoked.
    PartialApplied,
}

impl State {
    /// The value of `status.state`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Error => "Error",
            Self::Applied => "Applied",
            Self::PartialApplied => "PartialApplied",
        }
    }
}

impl From<Ending> for State {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Applied => Self::Applied,
            Ending::PartialApplied => Self::PartialApplied,
            Ending::Error => Self::Error,
        }
    }
}

/// A change of the status.
#[derive(Clone, Debug)]
pub struct StatusUpdate {
    /// `status.state`
    pub state: State,
    /// `status.message`
    pub message: String,
    /// The affected Certificates; `None` keeps the lists in the status.
    pub lists: Option<Lists>,
    /// Whether the revocation is finished.
    pub finished: bool,
    /// The back-off until the next request to the CA.
    pub backoff: Option<Backoff>,
}

impl StatusUpdate {
    /// The revocation is in progress.
    #[must_use]
    pub fn pending(message: impl Into<String>, lists: Option<Lists>) -> Self {
        let (finished, backoff) = (false, None);
        Self { state: State::Pending, message: message.into(), lists, finished, backoff }
    }

    /// The revocation is refused until the configuration changes.
    #[must_use]
    pub fn error(message: impl Into<String>) -> Self {
        Self { state: State::Error, ..Self::pending(message, None) }
    }
}

/// The status after `update`.
#[must_use]
pub fn of(
    revocation: &CertificateRevocation,
    update: &StatusUpdate,
    now: Timestamp,
) -> CertificateRevocationStatus {
    let before = revocation.status.clone().unwrap_or_default();
    let (objects, secrets) = match &update.lists {
        Some(lists) => (Some(objects(lists)), Some(secrets(lists))),
        None => (before.objects, before.secrets),
    };
    let generation = revocation.metadata.generation;
    let mut message = update.message.clone();
    cut(&mut message, MAX_MESSAGE);
    CertificateRevocationStatus {
        observed_generation: generation,
        state: update.state.word().to_owned(),
        message: Some(message),
        objects,
        secrets,
        revocation_applied: update.finished.then(|| seconds(now)),
        backoff: update.backoff.map(|backoff| BackoffState {
            observed_generation: generation,
            recheck_after: seconds_up(backoff.until),
            recheck_interval: go_duration(backoff.interval),
            failures: None,
        }),
    }
}

fn objects(lists: &Lists) -> RevokedObjects {
    RevokedObjects {
        processing: list(&lists.processing),
        renewed: list(&lists.renewed),
        revoked: list(&lists.revoked),
        failed: list(&lists.failed),
    }
}

fn secrets(lists: &Lists) -> RevokedSecrets {
    RevokedSecrets {
        processing: list(&lists.secrets),
        revoked: list(&lists.revoked_secrets),
        failed: list(&lists.failed_secrets),
    }
}

fn list<T: Clone>(set: &BTreeSet<T>) -> Option<Vec<T>> {
    (!set.is_empty()).then(|| set.iter().cloned().collect())
}

/// The back-off in the status, if it is for the current specification.
#[must_use]
pub fn backoff(revocation: &CertificateRevocation) -> Option<Backoff> {
    let backoff = revocation.status.as_ref()?.backoff.as_ref()?;
    let until = backoff.recheck_after.parse().ok()?;
    (backoff.observed_generation == revocation.metadata.generation).then(|| Backoff {
        until,
        interval: duration(&backoff.recheck_interval).unwrap_or_default(),
        failures: 0,
    })
}

impl Controller {
    /// Writes the status if it has changed, and publishes an event.
    pub(super) async fn publish_status(
        &self,
        key: &RevocationKey,
        revocation: &CertificateRevocation,
        update: &StatusUpdate,
    ) -> kube::Result<()> {
        let should = of(revocation, update, self.clock.now());
        let before = revocation.status.as_ref();
        let api = self.revocations(key);
        let Some(written) = publish(&api, revocation, before, &should).await? else {
            return Ok(());
        };
        let is_news = update.finished
            || before.is_none_or(|before| before.state != should.state)
            || (update.state == State::Error
                && before.is_some_and(|before| before.message != should.message));
        self.index.put(key, written);
        if is_news {
            self.publish_event(key, revocation, update);
        }
        Ok(())
    }

    fn publish_event(
        &self,
        key: &RevocationKey,
        revocation: &CertificateRevocation,
        update: &StatusUpdate,
    ) {
        let about = revocation.object_ref(&());
        let (word, message) = (update.state.word(), &update.message);
        let events = &self.clusters.at(key.cluster).events;
        match update.state {
            State::Pending | State::Applied => {
                tracing::info!(revocation = %key, state = word, "revocation {key}: {message}");
                events.normal(about, word, message);
            }
            State::Error | State::PartialApplied => {
                tracing::warn!(revocation = %key, state = word, "revocation {key}: {message}");
                events.warning(about, word, message);
            }
        }
    }
}
