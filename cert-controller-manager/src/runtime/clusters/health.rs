//! The reachability of a cluster, derived from the results of all calls.

use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::runtime::role::Reachability;

/// The result of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ServerResponse {
    /// A response to an accepted request, including errors about the object.
    Accepted,
    /// A response to a request that needs no rights.
    Answered,
    /// 403, with the request.
    Forbidden(String),
    /// 401, or no credentials; with the reason.
    Unauthorized(String),
    /// No response, with the reason.
    Nothing(String),
}

/// Callers report single missing rights. This many refusals over this time, with no accepted request
/// in between, mean that the server refuses everything.
const REFUSALS: u32 = 5;
const REFUSED_FOR: SignedDuration = SignedDuration::from_secs(30);

/// State that determines the next [`Reachability`].
#[derive(Debug, Default)]
struct Refusals {
    /// Number of forbidden calls since the last accepted one, and the time of the first.
    forbidden: Option<(u32, Timestamp)>,
}

impl Refusals {
    /// The reachability after a call.
    fn after(
        &mut self,
        known: &Reachability,
        response: ServerResponse,
        now: Timestamp,
    ) -> Reachability {
        use Reachability::{Away, Reachable, Refused, Unknown};
        match response {
            ServerResponse::Accepted => {
                self.forbidden = None;
                Reachable
            }
            // Such a response does not show that we have any rights.
            ServerResponse::Answered
                if self.forbidden.is_some() && matches!(known, Refused { .. }) =>
            {
                known.clone()
            }
            ServerResponse::Answered => Reachable,
            ServerResponse::Forbidden(why) => {
                let (calls, first) = self.forbidden.unwrap_or((0, now));
                self.forbidden = Some((calls.saturating_add(1), first));
                let lasts = calls + 1 >= REFUSALS && now.duration_since(first) >= REFUSED_FOR;
                match known {
                    Refused { since, .. } => Refused { since: *since, why },
                    Reachable | Unknown | Away { .. } if lasts => Refused { since: first, why },
                    Reachable | Unknown | Away { .. } => Reachable,
                }
            }
            ServerResponse::Unauthorized(why) => match known {
                Refused { since, .. } => Refused { since: *since, why },
                Reachable | Unknown | Away { .. } => Refused { since: now, why },
            },
            ServerResponse::Nothing(why) => match known {
                Away { since, .. } => Away { since: *since, why },
                Reachable | Unknown | Refused { .. } => Away { since: now, why },
            },
        }
    }
}

/// The reachability of one API server.
pub(super) struct Health {
    known: watch::Sender<Reachability>,
    refusals: Mutex<Refusals>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self { known: watch::Sender::new(Reachability::Unknown), refusals: Mutex::default() }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Reachability> {
        self.known.subscribe()
    }

    /// Records the result of a call. `name` is for the log.
    pub(super) fn note(&self, name: impl Fn() -> String, response: ServerResponse) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let reachable = matches!(*self.known.borrow(), Reachability::Reachable);
        if response == ServerResponse::Accepted && reachable && refusals.forbidden.is_none() {
            return;
        }
        let now = Timestamp::now();
        self.known.send_if_modified(|known| {
            let next = refusals.after(known, response, now);
            report(known, &next, now, name);
            let changed = *known != next;
            *known = next;
            changed
        });
    }
}

fn report(known: &Reachability, next: &Reachability, now: Timestamp, name: impl Fn() -> String) {
    use Reachability::{Away, Reachable, Refused, Unknown};
    match (known, next) {
        (Away { since, .. }, Reachable | Refused { .. }) => {
            let seconds = now.duration_since(*since).as_secs();
            info!("{} answers again, after {seconds} s", name());
        }
        (Refused { since, .. }, Reachable) => {
            let seconds = now.duration_since(*since).as_secs();
            info!("{} accepts requests again, after {seconds} s", name());
        }
        (Unknown | Reachable | Refused { .. }, Away { why, .. }) => {
            warn!("{} does not answer: {why}", name());
        }
        _ => {}
    }
    if let (Unknown | Reachable | Away { .. }, Refused { why, .. }) = (known, next) {
        warn!("{} refuses requests: {why}", name());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_and_refusals_keep_the_time_of_the_first_one() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let away = |since, why: &str| Reachability::Away { since: at(since), why: why.into() };
        let refused =
            |since, why: &str| Reachability::Refused { since: at(since), why: why.into() };
        let (unknown, reachable) = (Reachability::Unknown, Reachability::Reachable);
        for (known, response, next) in [
            (&unknown, ServerResponse::Accepted, reachable.clone()),
            (&unknown, ServerResponse::Nothing("a".into()), away(9, "a")),
            (&reachable, ServerResponse::Nothing("a".into()), away(9, "a")),
            (&away(5, "a"), ServerResponse::Nothing("b".into()), away(5, "b")),
            (&away(5, "a"), ServerResponse::Answered, reachable.clone()),
            (&away(5, "a"), ServerResponse::Accepted, reachable.clone()),
            (&away(5, "a"), ServerResponse::Unauthorized("u".into()), refused(9, "u")),
            (&reachable, ServerResponse::Unauthorized("u".into()), refused(9, "u")),
            (&reachable, ServerResponse::Forbidden("f".into()), reachable.clone()),
            (&refused(5, "u"), ServerResponse::Unauthorized("v".into()), refused(5, "v")),
            (&refused(5, "u"), ServerResponse::Answered, reachable.clone()),
            (&refused(5, "u"), ServerResponse::Nothing("a".into()), away(9, "a")),
        ] {
            let mut refusals = Refusals::default();
            assert_eq!(
                refusals.after(known, response.clone(), at(9)),
                next,
                "{known:?} {response:?}"
            );
        }
    }

    #[test]
    fn only_continuous_refusals_make_a_cluster_refused() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let forbidden = || ServerResponse::Forbidden("GET /api/v1/secrets".into());
        let mut refusals = Refusals::default();
        let mut known = Reachability::Reachable;
        for second in 0..40 {
            known = refusals.after(&known, forbidden(), at(second));
            let refused = matches!(known, Reachability::Refused { .. });
            assert_eq!(refused, second >= 30, "{second}");
        }
        known = refusals.after(&known, ServerResponse::Answered, at(41));
        assert!(matches!(known, Reachability::Refused { .. }), "the version needs no rights");
        known = refusals.after(&known, ServerResponse::Accepted, at(42));
        assert_eq!(refusals.after(&known, forbidden(), at(100)), Reachability::Reachable);
    }
}
