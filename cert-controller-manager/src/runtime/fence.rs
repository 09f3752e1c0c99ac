//! Fencing: prevents writes of a process that is not the leader.
//!
//! Another process takes the Lease when it expires. Therefore the permission to write has an end
//! time. No task has to revoke it, and a suspended process finds it expired when it continues. The
//! clock is `CLOCK_BOOTTIME`, which includes suspend and cannot be set.
//!
//! The permission is checked twice. Before a request is passed to the connection, writes are refused
//! with [`NotLeading`]. Before each write to a socket ([`socket`]), everything is refused after the
//! permission has expired, because a request may wait for a connection in between.
//!
//! A risk remains: the network may delay bytes that the kernel accepted before the expiry. They may
//! arrive after another process becomes leader, which takes lease duration minus renew deadline (5 s
//! by default). A Lease cannot prevent that. The API server still checks the resource version of such
//! a write, if it has one.

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

/// A write that was not sent because this process is not the leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not sent: this process does not lead")]
pub struct NotLeading;

/// Special values of the end time, a [`boottime`] in nanoseconds: no permission, and one without end.
const CLOSED: u64 = 0;
const ENDLESS: u64 = u64::MAX;

impl Fence {
    /// A fence that refuses writes until it is opened.
    #[must_use]
    pub fn closed() -> Self {
        Self(Arc::new(AtomicU64::new(CLOSED)))
    }

    /// A fence that permits all writes: for `--omit-lease`, with a single process.
    #[must_use]
    pub fn always() -> Self {
        Self(Arc::new(AtomicU64::new(ENDLESS)))
    }

    /// Whether this process may write now.
    #[must_use]
    pub fn permits(&self) -> bool {
        self.remaining() > Duration::ZERO
    }

    /// How long this process may still write.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        match self.0.load(SeqCst) {
            ENDLESS => Duration::MAX,
            end => Duration::from_nanos(end).saturating_sub(boottime()),
        }
    }

    /// Whether a permission has expired. It cannot be renewed then: another process may have written in
    /// the meantime, so this one must exit.
    #[must_use]
    pub fn lapsed(&self) -> bool {
        lapsed(self.0.load(SeqCst), boottime())
    }

    /// Permits writes until `end`. Returns false if `end` is in the past or a permission has expired.
    #[must_use]
    pub fn open_until(&self, end: Duration) -> bool {
        let nanos = u64::try_from(end.as_nanos()).unwrap_or(ENDLESS - 1);
        let opened = self.0.fetch_update(SeqCst, SeqCst, |known| {
            let now = boottime();
            (end > now && !lapsed(known, now)).then(|| known.max(nanos))
        });
        opened.is_ok()
    }

    /// Revokes the permission. An expired one stays expired.
    pub fn close(&self) {
        let _ = self
            .0
            .fetch_update(SeqCst, SeqCst, |known| (!lapsed(known, boottime())).then_some(CLOSED));
    }

    /// Checks whether a request with this method may be sent now.
    ///
    /// # Errors
    /// [`NotLeading`] for writes without permission.
    pub fn check(&self, method: &Method) -> Result<(), NotLeading> {
        if method.is_safe() || self.permits() { Ok(()) } else { Err(NotLeading) }
    }
}

impl NotLeading {
    /// Whether the fence caused this error.
    #[must_use]
    pub fn is(error: &kube::Error) -> bool {
        Self::is_in(error)
    }

    fn is_in(error: &(dyn std::error::Error + 'static)) -> bool {
        // The source of an I/O error skips the error that it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        error.is::<Self>()
            || wrapped.is_some_and(|inner| Self::is_in(inner))
            || error.source().is_some_and(Self::is_in)
    }
}

fn lapsed(end: u64, now: Duration) -> bool {
    end != CLOSED && end != ENDLESS && Duration::from_nanos(end) <= now
}

/// Time since the boot, including suspend. It cannot be set.
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

    /// A fence with an expired permission.
    fn expired() -> Fence {
        Fence(Arc::new(AtomicU64::new(u64::try_from(boottime().as_nanos()).unwrap() - 1)))
    }

    #[test]
    fn only_writes_need_the_permission() {
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
            (expired(), false),
        ] {
            assert_eq!(fence.permits(), permits);
            for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
                assert_eq!(fence.check(&method).is_ok(), permits, "{method} {fence:?}");
            }
            assert_eq!(fence.check(&Method::GET), Ok(()));
        }
    }

    #[test]
    fn an_expired_permission_is_not_renewed() {
        let fence = expired();
        assert!(fence.lapsed());
        assert!(!fence.open_until(boottime() + HOUR));
        fence.close();
        assert!(fence.lapsed() && !fence.permits());
    }

    #[test]
    fn a_permission_that_ends_in_the_past_is_refused() {
        let fence = Fence::closed();
        assert!(!fence.open_until(boottime()));
        assert!(!fence.lapsed() && !fence.permits());
        assert!(fence.open_until(boottime() + HOUR), "it was never given, so it did not expire");
    }

    #[test]
    fn a_permission_is_never_shortened() {
        let fence = Fence::closed();
        assert!(fence.open_until(boottime() + HOUR));
        assert!(fence.open_until(boottime() + HOUR / 2));
        assert!(fence.remaining() > HOUR / 2);
    }

    #[test]
    fn the_refusal_is_found_in_nested_errors() {
        assert!(NotLeading::is(&kube::Error::Service(Box::new(NotLeading))));
        let wrapped = std::io::Error::other(std::io::Error::other(NotLeading));
        assert!(NotLeading::is(&kube::Error::Service(Box::new(wrapped))));
        assert!(!NotLeading::is(&kube::Error::Service("away".into())));
    }
}
