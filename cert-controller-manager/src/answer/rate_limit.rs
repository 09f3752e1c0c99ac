//! Limits the answers over UDP to each client network, because the source address of a datagram may be
//! forged: without a limit, an attacker could send our answers to a victim.
//!
//! Every second answer above the limit is sent without records and marked as truncated. A real resolver then
//! repeats its query over TCP, whose source address is proven. The memory is constant: networks share a
//! fixed number of buckets, and which ones share is random for each process.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::time::Instant;

/// A generic cell rate algorithm for each client network. Without a limit, it has no buckets.
pub(super) struct RateLimiter {
    start: Instant,
    /// Nanoseconds of one answer.
    interval: u64,
    seed: RandomState,
    /// When the answers so far are paid for, in nanoseconds since the start, shifted by one; and whether the
    /// next answer above the limit is truncated instead of dropped.
    buckets: Box<[AtomicU64]>,
}

/// What happens to a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Allowance {
    Answer,
    Truncate,
    Drop,
}

impl RateLimiter {
    /// Allows `per_second` answers to each network, and [`BURST_SECONDS`] times as many at once; 0 is no
    /// limit.
    pub(super) fn new(per_second: u32) -> Self {
        let buckets = if per_second == 0 { 0 } else { BUCKETS };
        Self {
            start: Instant::now(),
            interval: SECOND / u64::from(per_second.max(1)),
            seed: RandomState::new(),
            buckets: (0..buckets).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Counts a query from `client`. Loopback addresses have no limit, because the kernel drops datagrams
    /// from elsewhere that use them.
    pub(super) fn check(&self, client: IpAddr, now: Instant) -> Allowance {
        let client = client.to_canonical();
        if client.is_loopback() {
            return Allowance::Answer;
        }
        self.check_network(network(client), now)
    }

    fn check_network(&self, network: (u8, u64), now: Instant) -> Allowance {
        let Ok(count) = u64::try_from(self.buckets.len()) else { return Allowance::Answer };
        let place = self.seed.hash_one(network).checked_rem(count);
        let place = place.and_then(|place| usize::try_from(place).ok());
        let Some(bucket) = place.and_then(|place| self.buckets.get(place)) else {
            return Allowance::Answer;
        };
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        let now = u64::try_from(elapsed).unwrap_or(u64::MAX / 4);
        let mut allowance = Allowance::Answer;
        // The closure never returns `None`, so this cannot fail.
        let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
            let (paid, truncate) = ((state >> 1).max(now), state & 1);
            let (next, truncate_next) = if paid - now + self.interval <= BURST_SECONDS * SECOND {
                allowance = Allowance::Answer;
                (paid + self.interval, truncate)
            } else if truncate == 1 {
                allowance = Allowance::Truncate;
                (paid, 0)
            } else {
                allowance = Allowance::Drop;
                (paid, 1)
            };
            Some((next << 1) | truncate_next)
        });
        allowance
    }
}

/// The network of a client: /24 for IPv4, /56 for IPv6, the usual size of a site.
fn network(client: IpAddr) -> (u8, u64) {
    match client {
        IpAddr::V4(address) => (4, u64::from(address.to_bits() >> 8)),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments().map(u64::from);
            (6, (a << 40) | (b << 24) | (c << 8) | (d >> 8))
        }
    }
}

/// Half a mebibyte of buckets.
const BUCKETS: usize = 1 << 16;
/// How long a network may exceed its rate: a CA queries the names of many orders at once.
const BURST_SECONDS: u64 = 5;
const SECOND: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: u32 = 100;

    fn take(limiter: &RateLimiter, client: &str, count: usize, now: Instant) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..count {
            match limiter.check(client.parse().unwrap(), now) {
                Allowance::Answer => counts[0] += 1,
                Allowance::Truncate => counts[1] += 1,
                Allowance::Drop => counts[2] += 1,
            }
        }
        counts
    }

    #[test]
    fn above_rate_and_burst_every_second_answer_is_truncated_and_the_others_are_dropped() {
        let limiter = RateLimiter::new(RATE);
        let start = limiter.start;
        assert_eq!(take(&limiter, "192.0.2.1", 700, start), [500, 100, 100]);
        let later = start + Duration::from_secs(1);
        assert_eq!(take(&limiter, "192.0.2.1", 200, later), [100, 50, 50]);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(take(&limiter, "192.0.2.1", 502, much_later), [500, 1, 1]);
    }

    #[test]
    fn addresses_of_one_network_share_a_limit() {
        for (one, other, shared) in [
            ("192.0.2.1", "192.0.2.254", true),
            ("192.0.2.1", "::ffff:192.0.2.7", true),
            ("2001:db8:0:100::1", "2001:db8:0:1ff:2::3", true),
        ] {
            let limiter = RateLimiter::new(RATE);
            let start = limiter.start;
            take(&limiter, one, 500, start);
            assert_eq!(take(&limiter, other, 1, start)[0] == 0, shared, "{one} {other}");
        }
        let different = ["192.0.3.1", "2001:db8:0:200::1", "2001:db8:1:100::1"];
        let networks = different.map(|it| network(it.parse().unwrap()));
        let same = ["192.0.2.1", "2001:db8:0:100::1"].map(|it| network(it.parse().unwrap()));
        assert!(networks.iter().all(|it| !same.contains(it)));
    }

    #[test]
    fn loopback_and_a_limit_of_zero_are_never_limited() {
        let limiter = RateLimiter::new(1);
        for client in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(take(&limiter, client, 1000, limiter.start), [1000, 0, 0], "{client}");
        }
        let off = RateLimiter::new(0);
        assert_eq!(take(&off, "192.0.2.1", 100_000, off.start), [100_000, 0, 0]);
        assert!(off.buckets.is_empty());
    }

    #[test]
    fn a_flood_of_forged_networks_needs_no_memory_and_does_not_limit_others() {
        let limiter = RateLimiter::new(RATE);
        let start = limiter.start;
        for number in 0..200_000_u32 {
            let client = IpAddr::from((0x0100_0000 + (number << 8)).to_be_bytes());
            limiter.check(client, start);
        }
        assert_eq!(limiter.buckets.len(), BUCKETS);
        assert_eq!(take(&limiter, "198.51.100.1", 100, start), [100, 0, 0]);
    }
}
