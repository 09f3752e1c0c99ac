//! Whether this process may write now.
//!
//! A leader holds its Lease for a time, and whoever finds that time over takes it. So the permission
//! to write ends by itself: no task has to run for it, and a process that was frozen finds it ended
//! when it is woken. The time is `CLOCK_BOOTTIME`, which goes on while a machine sleeps and which
//! nobody sets.
//!
//! It is asked twice. Before a request is given to the connection: what changes anything is refused
//! with [`NotLeading`]. And before each byte that is given to a socket ([`socket`]), because a
//! request may wait in between, for a connection or for its turn: once a permission has run out,
//! nothing is sent any more at all.
//!
//! What remains: bytes that the kernel took before the end may reach the API server after it, when
//! the network holds them back, for longer than lies between the end of our permission and the
//! instant when another may lead (lease duration less renew deadline, 5 s by default). A Lease
//! cannot prevent that. Such a write still has to pass the API server's check of the version it
//! was based on, where it has one.

pub mod outbound;
pub mod socket;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use http::Method;
use rustix::time::{ClockId, clock_gettime};

/// See the [module](self). Clones are the same fence.
#[derive(Clone, Debug)]
pub struct Fence(Arc<AtomicU64>);

/// A write that was not sent, because this process may not write: it does not lead, or does not
/// any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not sent: this process does not lead")]
pub struct NotLeading;

/// The permission ends at this [`boottime`] in nanoseconds. The first instant stands for a permission
/// that was never given or was given back, the last one for one without end.
const CLOSED: u64 = 0;
const ENDLESS: u64 = u64::MAX;

impl Fence {
    /// A fence that lets nothing pass until somebody opens it.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(AtomicU64::new(CLOSED)))
    }

    /// A fence that lets everything pass: for `--omit-lease`, where nobody else writes.
    #[must_use]
    pub fn always() -> Self {
        Self(Arc::new(AtomicU64::new(ENDLESS)))
    }

    /// Whether this process may write now.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.remaining() > Duration::ZERO
    }

    /// For how long this process may still write.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match self.0.load(SeqCst) {
            ENDLESS => Duration::MAX,
            end => Duration::from_nanos(end).saturating_sub(boottime()),
        }
    }

    /// Whether there was a permission and it ran out. It does not come back then: the process has
    /// to end, because it cannot know what others wrote meanwhile.
    #[must_use]
    pub fn lapsed(&self) -> bool {
        lapsed(self.0.load(SeqCst), boottime())
    }

    /// Permits writes until `end`. Returns whether they are permitted: not where `end` has passed,
    /// and not after an earlier permission has run out.
    #[must_use]
    pub fn open_until(&self, end: Duration) -> bool {
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(ENDLESS - 1);
        let opened = self.0.fetch_update(SeqCst, SeqCst, |known| {
            let now = boottime();
            (end > now && !lapsed(known, now)).then(|| known.max(nanos))
        });
        opened.is_ok()
    }

    /// Lets nothing pass any more. A permission that has run out stays as it is.
    pub fn close(&self) {
        let _ = self
            .0
            .fetch_update(SeqCst, SeqCst, |known| (!lapsed(known, boottime())).then_some(CLOSED));
    }

    /// Whether a request of this method may be sent now.
    ///
    /// # Errors
    /// [`NotLeading`] for what changes something, when this process may not write.
    pub fn check(&self, method: &Method) -> Result<(), NotLeading> {
        if method.is_safe() || self.permits() { Ok(()) } else { Err(NotLeading) }
    }
}

impl NotLeading {
    /// Whether a failed call failed because it was not permitted.
    #[must_use]
    pub fn is(error: &kube::Error) -> bool {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            // What an I/O error wraps is not its source.
            let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if error.is::<Self>() || matches!(wrapped, Some(inner) if inner.is::<Self>()) {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

fn lapsed(end: u64, now: Duration) -> bool {
    end != CLOSED && end != ENDLESS && Duration::from_nanos(end) <= now
}

/// Time since the machine started, with the time it slept. Nobody sets it, and it does not stop.
#[must_use]
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A permission that has just run out.
    fn run_out() -> Fence {
        Fence(Arc::new(AtomicU64::new(u64::try_from(boottime().as_nanos()).unwrap() - 1)))
    }

    #[test]
    fn writes_are_refused_unless_permitted_and_reads_never() {
        let open = Fence::closed();
        assert!(open.open_until(boottime() + HOUR));
        let closed_again = Fence::closed();
        assert!(closed_again.open_until(boottime() + HOUR));
        closed_again.close();
        for (fence, permits) in [
            (Fence::closed(), false),
            (Fence::always(), true),
            (open, true),
            (closed_again, false),
            (run_out(), false),
        ] {
            assert_eq!(fence.permits(), permits);
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(fence.check(&method).is_ok(), permits, "{method} {fence:?}");
            }
            assert_eq!(fence.check(&Method::GET), Ok(()));
        }
    }

    #[test]
    fn a_permission_that_ran_out_does_not_come_back() {
        let fence = run_out();
        assert!(fence.lapsed());
        assert!(!fence.open_until(boottime() + HOUR));
        fence.close();
        assert!(fence.lapsed() && !fence.permits());
    }

    #[test]
    fn a_permission_that_would_end_in_the_past_is_none() {
        let fence = Fence::closed();
        assert!(!fence.open_until(boottime()));
        assert!(!fence.lapsed() && !fence.permits());
        assert!(fence.open_until(boottime() + HOUR), "it was never given, so it did not run out");
    }

    #[test]
    fn a_permission_is_never_shortened_by_an_older_answer() {
        let fence = Fence::closed();
        assert!(fence.open_until(boottime() + HOUR));
        assert!(fence.open_until(boottime() + HOUR / 2));
        assert!(fence.remaining() > HOUR / 2);
    }

    #[test]
    fn the_refusal_is_found_in_what_kube_makes_of_it() {
        assert!(NotLeading::is(&kube::Error::Service(Box::new(NotLeading))));
        let wrapped = std::io::Error::other(NotLeading);
        assert!(NotLeading::is(&kube::Error::Service(Box::new(wrapped))));
        assert!(!NotLeading::is(&kube::Error::Service("away".into())));
    }
}
