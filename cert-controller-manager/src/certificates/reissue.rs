//! Counts repeated issuance for the same names, in which a reissue loop shows.

use cert_lib::{
    model::{reason::Reason, request::Request},
    plan::{SecretState, reissue_loop},
};
use jiff::Timestamp;

use super::{controller::Controller, pass::Pass, status};

impl Controller {
    /// Returns the recent times of repeated issuance for these names, this one included if it is a
    /// repetition: the request was already fulfilled, or the last certificate is only a short time old.
    pub(super) fn reissued_now(
        &self,
        pass: &Pass<'_>,
        request: &Request,
        why: Reason,
    ) -> Vec<Timestamp> {
        let (have, now) = (&pass.observed.have, self.clock.now());
        let stored = match &have.secret {
            SecretState::Holds(stored) => Some(stored),
            SecretState::Missing | SecretState::NotWritable(_) | SecretState::Unusable(_) => None,
        };
        let is_fulfilled = status::is_renewal_fulfilled(pass.certificate, &request.fingerprint);
        let is_soon = stored.is_some_and(|stored| {
            reissue_loop::is_soon_after(stored.requested_at.max(stored.leaf.not_before), now)
        });
        let is_repeated = match why {
            Reason::SecretMissing | Reason::SecretUnusable => is_fulfilled,
            // A request that changes back and forth is never fulfilled.
            Reason::SecretMismatch => {
                let names = request.names().into_iter().collect();
                is_fulfilled || (is_soon && stored.is_some_and(|it| it.leaf.names == names))
            }
            // With a tool that applies `renew: true` repeatedly, the request is never fulfilled.
            Reason::RenewalDemanded => is_soon,
            Reason::RenewalDue => {
                stored.is_some_and(|stored| now < reissue_loop::young_until(stored))
            }
            _ => false,
        };
        // A tool that restores an old Secret repeatedly makes a renewal due each time.
        if !is_repeated && !have.holds_older_certificate() {
            return have.reissued.clone();
        }
        let times = reissue_loop::kept(have.reissued.iter().copied().chain([now]), now);
        self.records.record_reissued(pass.key, request.names(), times.clone());
        times
    }
}
