//! Failures and retries of each Certificate, in memory. The status stores the back-off too, but its
//! cluster may be unavailable or refuse the write, and back-off must work anyway.

use std::collections::BTreeSet;

use cert_lib::{
    model::name::DnsName,
    plan::{backoff::Backoff, reissue_loop},
};
use jiff::{SignedDuration, Timestamp};

/// Failures and retries of one Certificate. See the [module](self).
#[derive(Debug, Default)]
pub(super) struct RetryState {
    /// The back-off, with the generation of the failed specification.
    pub(super) backoff: Option<(Option<i64>, Backoff)>,
    pub(super) rewrites: Option<Rewrites>,
    /// Number of consecutive refused writes.
    pub(super) refusals: u32,
    /// Times of requested retries.
    pub(super) retries: Vec<Timestamp>,
    /// Times of recent reissuance, and the names of these certificates.
    pub(super) reissued: Option<(BTreeSet<DnsName>, Vec<Timestamp>)>,
    /// Generation of the specification for which the CA refused to reuse the private key.
    pub(super) key_refused: Option<Option<i64>>,
}

/// Number of consecutive rewrites of a Secret, and the time of the last one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rewrites {
    times: u32,
    last: Timestamp,
}

/// Number of rewrites without a delay. Another client may overwrite the Secret again each time.
const FREE_REWRITES: u32 = 3;
const FIRST_PAUSE: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of requested retries per hour. Each may fail at the CA, and Let's Encrypt permits
/// five failures per name and hour.
const MAX_RETRIES: usize = 4;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl RetryState {
    pub(super) fn may_rewrite(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        let recent = self.rewrites.filter(|it| now.duration_since(it.last) < LONGEST_PAUSE);
        let times = recent.map_or(0, |it| it.times);
        if let Some(recent) = recent.filter(|it| it.times >= FREE_REWRITES) {
            let doublings = (recent.times - FREE_REWRITES).min(6);
            let pause = (FIRST_PAUSE * 2_i32.pow(doublings)).min(LONGEST_PAUSE);
            let from = recent.last.saturating_add(pause).unwrap_or(now);
            if now < from {
                return Err(from);
            }
        }
        self.rewrites = Some(Rewrites { times: times.saturating_add(1), last: now });
        Ok(())
    }

    pub(super) fn may_retry(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        self.retries.retain(|time| now.duration_since(*time) < HOUR);
        if let [first, ..] = self.retries.as_slice()
            && self.retries.len() >= MAX_RETRIES
        {
            return Err(first.saturating_add(HOUR).unwrap_or(now));
        }
        (self.backoff, self.rewrites) = (None, None);
        if let Some((_, times)) = &mut self.reissued {
            *times = reissue_loop::without_loop(times).to_vec();
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        let Self { backoff, rewrites, refusals, retries, reissued, key_refused } = self;
        backoff.is_none()
            && rewrites.is_none()
            && *refusals == 0
            && retries.is_empty()
            && reissued.as_ref().is_none_or(|(_, times)| times.is_empty())
            && key_refused.is_none()
    }
}
