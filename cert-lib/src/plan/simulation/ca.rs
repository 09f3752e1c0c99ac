//! A CA like Let's Encrypt: with its limits, its renewal information, and outages.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::{DAY, Disposition, GRACE, HOUR, RetrySchedule, SECOND};
use crate::model::{
    bundle::{Leaf, LeafDigest},
    cert_id::CertId,
};

/// A simulated CA; see the [module](self).
pub(super) struct Ca {
    /// Outages, from when to when.
    down: Vec<(Timestamp, Timestamp)>,
    /// When it starts to answer differently.
    changes: Vec<Timestamp>,
    has_renewal_info: bool,
    issued: Vec<Issued>,
    account: Bucket,
    domains: HashMap<usize, Bucket>,
    sets: HashMap<usize, Bucket>,
    /// Orders that were placed.
    pub(super) orders: usize,
    /// Those of them that are exempt from limits.
    pub(super) exempt: usize,
    /// Orders that a limit refused.
    pub(super) refused: usize,
}

struct Issued {
    owner: usize,
    not_before: Timestamp,
    not_after: Timestamp,
    life: SignedDuration,
    replaced: bool,
    revoked: Option<Timestamp>,
}

/// The answer to a request for renewal information.
pub(super) enum Answer {
    /// It has no renewal information.
    Nothing,
    /// It is down.
    Failure,
    /// A window (RFC 9773).
    Window { window: (Timestamp, Timestamp), explanation_url: Option<String>, again: Timestamp },
}

/// A token bucket.
struct Bucket {
    burst: i32,
    refill: SignedDuration,
    empty_at: Timestamp,
}

impl Bucket {
    fn new(burst: i32, refill: SignedDuration) -> Self {
        Self { burst, refill, empty_at: Timestamp::UNIX_EPOCH }
    }

    /// When there is a token: `now` or earlier if there is one.
    fn next(&self, now: Timestamp) -> Timestamp {
        self.empty_at.max(now - self.refill * self.burst) + self.refill
    }

    fn take(&mut self, now: Timestamp) {
        self.empty_at = self.next(now);
    }
}

impl Ca {
    pub(super) fn new(down: &[(Timestamp, Timestamp)], has_renewal_info: bool) -> Self {
        Self {
            down: down.to_vec(),
            changes: down.iter().flat_map(|(from, to)| [*from, *to]).collect(),
            has_renewal_info,
            issued: Vec::new(),
            account: Bucket::new(300, SECOND * 36),
            domains: HashMap::new(),
            sets: HashMap::new(),
            orders: 0,
            exempt: 0,
            refused: 0,
        }
    }

    /// For certificates that existed before the simulation.
    pub(super) fn without_account_limit(mut self) -> Self {
        self.account = Bucket::new(i32::MAX / 100, SECOND);
        self
    }

    /// Schedules a revocation at `time`.
    pub(super) fn will_revoke(mut self, time: Timestamp) -> Self {
        self.changes.push(time);
        self
    }

    /// A long outage answers with a Retry-After, a short one is a network error.
    pub(super) fn answers(&self, now: Timestamp) -> Result<(), Disposition> {
        match self.down.iter().find(|(from, to)| (*from..*to).contains(&now)) {
            None => Ok(()),
            Some((from, to)) if to.duration_since(*from) <= DAY => {
                Err(Disposition::Retry(RetrySchedule::Transport))
            }
            Some(_) => Err(Disposition::Until(now + HOUR)),
        }
    }

    /// Takes an order of `owner`, or returns when it would. An order that names the replaced
    /// certificate is exempt. A renewal without it is limited per set of names; all other orders
    /// are new.
    pub(super) fn order(
        &mut self,
        owner: usize,
        replaces: Option<&CertId>,
        now: Timestamp,
    ) -> Result<(), Disposition> {
        self.answers(now)?;
        self.orders += 1;
        let replaced = replaces.and_then(|id| self.issued.get(serial(id)));
        if self.has_renewal_info
            && replaced.is_some_and(|it| it.owner == owner && !it.replaced && it.not_after > now)
        {
            self.exempt += 1;
            return Ok(());
        }
        let is_renewal = self.sets.contains_key(&owner);
        let domain =
            self.domains.entry(owner / 10).or_insert_with(|| Bucket::new(50, HOUR * 7 * 24 / 50));
        let set = self.sets.entry(owner).or_insert_with(|| Bucket::new(5, HOUR * 7 * 24 / 5));
        let mut limits = vec![set];
        // The set of an expired certificate counts like any other here, which is stricter than
        // Let's Encrypt.
        if !is_renewal || self.has_renewal_info {
            limits.extend([domain, &mut self.account]);
        }
        if let Some(time) = limits.iter().map(|limit| limit.next(now)).filter(|it| *it > now).max()
        {
            self.refused += 1;
            return Err(Disposition::Until(time + SignedDuration::from_millis(500)));
        }
        limits.into_iter().for_each(|limit| limit.take(now));
        Ok(())
    }

    /// Issues the certificate.
    pub(super) fn issue(
        &mut self,
        owner: usize,
        life: SignedDuration,
        replaces: Option<&CertId>,
        now: Timestamp,
    ) -> Leaf {
        if let Some(old) = replaces.and_then(|id| self.issued.get_mut(serial(id))) {
            old.replaced = true;
        }
        let number = self.issued.len();
        let (not_before, not_after) = (now - HOUR, now - HOUR + life - SECOND);
        let (replaced, revoked) = (false, None);
        self.issued.push(Issued { owner, not_before, not_after, life, replaced, revoked });
        let name = format!("host-{owner}.domain-{}.example", owner / 10).parse().unwrap();
        Leaf {
            digest: LeafDigest::of(&number.to_be_bytes()),
            serial: format!("{number:08x}"),
            not_before,
            not_after,
            names: [name].into(),
            public_key: vec![],
            is_ca: false,
            is_self_issued: false,
            id: Some(serde_json::from_value(serde_json::json!(format!("a.{number}"))).unwrap()),
        }
    }

    /// Revokes all certificates of this lifetime that are in use.
    pub(super) fn revoke_all(&mut self, life: SignedDuration, now: Timestamp) {
        let serving =
            |it: &&mut Issued| it.life == life && !it.replaced && it.not_after > now + GRACE;
        self.issued.iter_mut().filter(serving).for_each(|it| it.revoked = Some(now));
    }

    pub(super) fn is_revoked(&self, leaf: &Leaf) -> bool {
        let issued = leaf.id.as_ref().and_then(|id| self.issued.get(serial(id)));
        issued.is_some_and(|it| it.revoked.is_some())
    }

    /// Boulder's windows: around two thirds of the lifetime, half of a short one, one percent to
    /// both sides. The window of a revoked certificate was half an hour ago.
    pub(super) fn renewal_info(&self, id: &CertId, now: Timestamp) -> Answer {
        if !self.has_renewal_info {
            return Answer::Nothing;
        }
        if self.answers(now).is_err() {
            return Answer::Failure;
        }
        let it = &self.issued[serial(id)];
        if it.revoked.is_some() {
            let window = (now - HOUR, now - HOUR / 2);
            let explanation_url = Some("https://ca.example/incident".to_owned());
            return Answer::Window { window, explanation_url, again: now + PAUSE };
        }
        let left = if it.life < DAY * 10 { it.life / 2 } else { it.life / 3 };
        let (centre, reach) = (it.not_before + it.life - left, it.life / 100);
        let again = self.next_question(now);
        Answer::Window { window: (centre - reach, centre + reach), explanation_url: None, again }
    }

    /// Of the requests at intervals of [`PAUSE`], the next with a different answer. The ones before
    /// it change nothing, and there would be a million of them.
    fn next_question(&self, now: Timestamp) -> Timestamp {
        let change = self.changes.iter().filter(|time| **time >= now).min();
        change.map_or(Timestamp::MAX, |change| {
            let (wait, pause) = (change.duration_since(now).as_nanos(), PAUSE.as_nanos());
            let pauses = i32::try_from((wait + pause - 1) / pause).unwrap();
            now + PAUSE * pauses.max(1)
        })
    }
}

/// Interval between requests for renewal information.
const PAUSE: SignedDuration = SignedDuration::from_hours(12);

/// The number of a certificate in its identifier.
fn serial(id: &CertId) -> usize {
    id.as_str().strip_prefix("a.").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX)
}
