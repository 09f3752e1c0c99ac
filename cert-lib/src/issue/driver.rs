//! The one issuing loop: it calls an issuer until its order waits, and stores the order on the way.
//!
//! It returns at once. The caller calls [`drive`] again at the time in the [`Outcome`], [abandons] an
//! order that failed, and deletes an order that is over from its store. Not here: whether an order may
//! be placed now, and where the certificate is stored.
//!
//! [abandons]: Issuer::abandon

use std::{convert::Infallible, fmt};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::{
    Advance, IssueError, Issuer, Phase, Progress,
    verify::{Mismatch, verify},
};
use crate::{
    clock::Clock,
    model::{bundle::Bundle, disposition::Disposition, reason::Reason, request::Request},
    plan::backoff::{self, Backoff},
};

/// Keeps the running order of one request.
#[async_trait]
pub trait OrderStore: Send {
    /// Why an order could not be stored.
    type Error: Send;

    /// The running order.
    fn order(&self) -> Option<RunningOrder>;

    /// Stores an order durably, before it goes on. Nothing needs to be written where it
    /// [is stored](Progress::is_stored_by) by the same bytes already.
    ///
    /// # Errors
    /// When it could not be written. Keep it in memory all the same, as [not stored](RunningOrder):
    /// the next call of [`drive`] stores it before it goes on, and the CA is not asked for another one.
    async fn save(&mut self, progress: &Progress, doing: &Phase) -> Result<(), Self::Error>;

    /// Keeps in memory how far the order came in a call that failed. Nothing needs to be written.
    fn keep(&mut self, progress: &Progress);
}

/// A running order as a store keeps it.
#[derive(Clone, Debug)]
pub struct RunningOrder {
    /// How far it is.
    pub progress: Progress,
    /// Whether the next process would find it.
    pub is_stored: bool,
    /// The wait after the last error that did not end it, if it has not gone on since.
    pub backoff: Option<Backoff>,
}

/// What a call of [`drive`] achieved.
#[derive(Debug)]
pub enum Outcome {
    /// The certificate is issued, and is the requested one.
    Issued(Box<Bundle>),
    /// The order waits.
    Waiting {
        /// What it waits for.
        doing: Phase,
        /// When to call again at the latest.
        until: Timestamp,
    },
    /// A step failed, and the order stands.
    Retry {
        /// Why.
        error: IssueError,
        /// When to call again.
        backoff: Backoff,
    },
    /// The order is over, or none could be placed.
    Failed {
        /// Why.
        error: IssueError,
        /// The kind of the error.
        reason: Reason,
        /// When to place another order.
        backoff: Backoff,
    },
}

/// For a status: empty where the certificate is issued.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Issued(_) => Ok(()),
            Self::Waiting { doing, .. } => doing.fmt(f),
            Self::Retry { error, .. } => {
                write!(f, "certificate requested, trying again: {error}")
            }
            Self::Failed { error, .. } => write!(f, "obtaining certificate failed: {error}"),
        }
    }
}

/// Takes the order in `orders` as far as it goes without waiting; places one where there is none.
/// `failed` is the wait after the last order that failed.
///
/// # Errors
/// When the order could not be stored. It did not go on.
pub async fn drive<S: OrderStore>(
    issuer: &dyn Issuer,
    request: &Request,
    orders: &mut S,
    failed: Option<Backoff>,
    clock: &dyn Clock,
) -> Result<Outcome, S::Error> {
    let mut order = orders.order();
    if let Some(unsure) = order.as_ref().filter(|order| !order.is_stored) {
        orders.save(&unsure.progress, &Phase::Ordered).await?;
    }
    loop {
        let from = order.as_ref().map(|order| order.progress.clone());
        let error = match issuer.advance(request, from).await {
            Ok(Advance::Issued(bundle)) => match verify(&bundle, request, clock.now()) {
                Ok(()) => return Ok(Outcome::Issued(Box::new(bundle))),
                Err(mismatch) => unusable(&mismatch),
            },
            Ok(Advance::Waiting { progress, doing, until }) => {
                orders.save(&progress, &doing).await?;
                if until > clock.now() {
                    return Ok(Outcome::Waiting { doing, until });
                }
                order = Some(RunningOrder { progress, is_stored: true, backoff: None });
                continue;
            }
            Err(error) => error,
        };
        if let Some(progress) = error.progress() {
            orders.keep(progress);
        }
        return Ok(classify(error, order.as_ref(), failed, clock.now()));
    }
}

/// What an error means for the order, and how long to wait after it.
fn classify(
    error: IssueError,
    order: Option<&RunningOrder>,
    failed: Option<Backoff>,
    now: Timestamp,
) -> Outcome {
    let disposition = error.disposition();
    if let (Some(order), false) = (order, error.ends_order()) {
        let previous = order.backoff.map(|backoff| backoff.interval);
        let wait = backoff::after(disposition, previous, now);
        let latest = now.saturating_add(LONGEST_WAIT).unwrap_or(now);
        let backoff = Backoff { until: wait.until.min(latest), ..wait };
        return Outcome::Retry { error, backoff };
    }
    let reason = match disposition {
        Disposition::FixRequest => Reason::SpecRefused,
        Disposition::FixIssuer => Reason::IssuerNotReady,
        Disposition::Retry(_) | Disposition::Until(_) => Reason::BackingOff,
    };
    Outcome::Failed { error, reason, backoff: backoff::next(disposition, failed, now) }
}

/// A certificate that is not the requested one is not used; another one may be.
fn unusable(mismatch: &Mismatch) -> IssueError {
    let message = format!("the issuer's certificate cannot be used: {mismatch}");
    IssueError::OrderFailed(message)
}

/// A running order is tried again once a day at least, whatever instant a server names.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// Keeps an order in memory only: a crash loses it. For programs that issue one certificate, and for
/// tests.
#[derive(Clone, Debug, Default)]
pub struct MemoryOrderStore(Option<RunningOrder>);

impl MemoryOrderStore {
    /// A store that holds the order that an earlier process stored.
    #[must_use]
    pub fn resume(progress: Progress) -> Self {
        Self(Some(RunningOrder { progress, is_stored: true, backoff: None }))
    }

    /// How far the order is.
    #[must_use]
    pub fn progress(&self) -> Option<&Progress> {
        self.0.as_ref().map(|order| &order.progress)
    }
}

#[async_trait]
impl OrderStore for MemoryOrderStore {
    type Error = Infallible;

    fn order(&self) -> Option<RunningOrder> {
        self.0.clone()
    }

    async fn save(&mut self, progress: &Progress, _doing: &Phase) -> Result<(), Infallible> {
        *self = Self::resume(progress.clone());
        Ok(())
    }

    fn keep(&mut self, progress: &Progress) {
        if let Some(order) = self.0.as_mut().filter(|it| progress.is_stored_by(&it.progress)) {
            order.progress = progress.clone();
        }
    }
}

#[cfg(test)]
mod tests;
