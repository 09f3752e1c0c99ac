//! An ACME issuer: its account, its options, and what its orders share.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use super::in_use::InUse;
use crate::{
    acme::{account::Account, order},
    clock::Clock,
    issue::{Capabilities, IssueError, KeyGenerator},
    solve::Solver,
};

/// Issues from one account at a CA.
pub struct AcmeIssuer {
    pub(super) account: Account,
    pub(super) solver: Arc<dyn Solver>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) keys: Arc<dyn KeyGenerator>,
    pub(super) options: AcmeOptions,
    /// Orders are placed one after the other. A CA searches its authorizations for each and limits
    /// how many there may be, so that parallel requests gain nothing. Pebble 2.10 even locks up when
    /// orders are placed in parallel while others fetch their authorizations.
    pub(super) placing: Semaphore,
    /// When the last order could not be placed, and why, if every order would have met the same.
    pub(super) failure: Mutex<Option<(Timestamp, IssueError)>>,
    /// Which authorizations are needed by running orders.
    pub(super) in_use: InUse,
}

/// How long an issuer waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Timing {
    /// How long published proofs may take to be seen.
    pub propagation_timeout: SignedDuration,
    /// How soon to poll the CA after a request that it works on. Each further poll waits twice as
    /// long, and none comes before the CA's Retry-After.
    pub first_poll: SignedDuration,
    /// The longest of these waits.
    pub longest_poll: SignedDuration,
}

/// The options of an issuer; those of a request take precedence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AcmeOptions {
    /// How long it waits.
    pub timing: Timing,
    /// The profile (draft-ietf-acme-profiles), unless a request names one.
    pub profile: Option<String>,
    /// The common name of an issuer in the preferred chain, unless a request names one.
    pub preferred_chain: Option<String>,
    /// Whether authorizations are deactivated after the certificate was issued, so that each order
    /// proves control again (RFC 8555 section 7.5.2).
    pub deactivate_authorizations: bool,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            propagation_timeout: SignedDuration::from_secs(120),
            first_poll: SignedDuration::from_millis(50),
            longest_poll: SignedDuration::from_secs(5),
        }
    }
}

impl AcmeIssuer {
    /// The capabilities of all ACME issuers.
    pub const CAPABILITIES: Capabilities = Capabilities {
        proves_control: true,
        limits_orders: true,
        renewal_info: true,
        revokes: true,
        honors_extras: false,
        self_signs: false,
    };

    /// An issuer that orders with `account`. Sends nothing yet.
    #[must_use]
    pub fn new(
        account: Account,
        solver: Arc<dyn Solver>,
        clock: Arc<dyn Clock>,
        keys: Arc<dyn KeyGenerator>,
        options: AcmeOptions,
    ) -> Self {
        Self {
            account,
            solver,
            clock,
            keys,
            options,
            placing: Semaphore::new(1),
            failure: Mutex::default(),
            in_use: InUse::default(),
        }
    }

    /// When to poll the CA again.
    pub(super) fn next_poll(&self, retry_after: Option<Timestamp>, polls: u32) -> Timestamp {
        let Timing { first_poll, longest_poll, .. } = self.options.timing;
        let pace = order::poll_interval(first_poll, longest_poll, polls);
        let ours = self.clock.now().saturating_add(pace).unwrap_or(Timestamp::MAX);
        let latest = self.clock.now().saturating_add(LONGEST_WAIT).unwrap_or(Timestamp::MAX);
        retry_after.map_or(ours, |theirs| theirs.min(latest).max(ours))
    }
}

impl fmt::Debug for AcmeIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmeIssuer").field("account", &self.account).finish_non_exhaustive()
    }
}

/// An order is polled after this at the latest, as a longer Retry-After may be a mistake.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
