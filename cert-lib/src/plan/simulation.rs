//! Simulates two years of a thousand certificates, with the real plan and a simulated CA.
//!
//! This file does what the manager does with a plan: it places and advances orders, records
//! failures and fetches renewal information. The CA is in [`ca`]. Nothing waits; the clock jumps
//! from event to event.

mod ca;

use std::{cmp::Reverse, collections::BTreeMap, collections::BinaryHeap};

use super::{fixtures::POLICY, spread::deterministic_hash, suggested::Suggested, *};
use crate::{
    model::{
        cert_id::CertId,
        disposition::{Disposition, RetrySchedule},
        request::{Fingerprint, KeyChoice, Request, Subject},
    },
    solve::Owner,
};
use ca::{Answer, Ca};

const SECOND: SignedDuration = SignedDuration::from_secs(1);
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// 6, 45 and 90 days, as Let's Encrypt offers them, for one, two and two of five certificates.
const LIVES: [SignedDuration; 3] = [
    SignedDuration::from_hours(160),
    SignedDuration::from_hours(1_080),
    SignedDuration::from_hours(2_160),
];
const COUNT: usize = 1_000;
/// One certificate of this number is planned each day, as all are in a cluster. For the others idle
/// plans are skipped to save time.
const DAILY: usize = 7;
/// How soon after an outage all certificates are valid again.
const RECOVERY: SignedDuration = SignedDuration::from_hours(3);
/// Time from renewal information to the revocation: Let's Encrypt allows a day.
const GRACE: SignedDuration = SignedDuration::from_hours(24);

/// A Certificate and the manager's state for it.
struct Certificate {
    want: Want,
    have: Have,
    life: SignedDuration,
    /// The wait after the last transient error of the running order.
    transient_wait: Option<SignedDuration>,
    /// The certificate that the running order replaces.
    replaces: Option<CertId>,
    /// Retry-After of the CA.
    retry_after: Option<Timestamp>,
    failed_questions: u32,
    /// Only the newest event of each kind counts.
    looks: u32,
    questions: u32,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Look { certificate: usize, number: u32 },
    Ask { certificate: usize, number: u32 },
    Restart,
    Revoke,
}

struct Simulation {
    now: Timestamp,
    ca: Ca,
    certificates: Vec<Certificate>,
    events: BinaryHeap<Reverse<(Timestamp, Event)>>,
    /// Times of renewals, by lifetime.
    renewed: Vec<(Timestamp, SignedDuration)>,
    /// Certificates that expired before their renewal: from when to when.
    gaps: Vec<(Timestamp, Timestamp)>,
    /// Times at which revoked certificates were replaced.
    replaced: Vec<Timestamp>,
}

fn start() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().unwrap()
}

fn day(number: i32) -> Timestamp {
    start() + DAY * number
}

/// A pseudo-random duration, from nothing to all of `span`.
fn pseudo_random(span: SignedDuration, what: &str, number: usize) -> SignedDuration {
    let hash = deterministic_hash(&[what.as_bytes(), &number.to_be_bytes()]);
    SignedDuration::from_secs(spread::part(span, hash).as_secs())
}

impl Certificate {
    fn new(number: usize) -> Self {
        // Ten names of each registered domain.
        let name = format!("host-{number}.domain-{}.example", number / 10).parse().unwrap();
        let subject = Subject::Names {
            common_name: Some(name),
            dns_names: vec![],
            key: KeyChoice::default(),
        };
        let owner = Owner(format!("ns/{number}"));
        let request = Request::new(owner, Fingerprint::stored(&number.to_string()), subject);
        Self {
            want: Want::new(request),
            have: Have::new(SecretState::Missing),
            life: LIVES[[0, 1, 1, 2, 2][number % 5]],
            transient_wait: None,
            replaces: None,
            retry_after: None,
            failed_questions: 0,
            looks: 0,
            questions: 0,
        }
    }

    /// The last of the daily plans without an action, if nothing changes.
    fn last_idle_look(&self, now: Timestamp) -> Timestamp {
        let Self { want, have: Have { secret: SecretState::Holds(stored), .. }, .. } = self else {
            panic!("nothing to keep");
        };
        let due = renewal::due(&stored.serving(), want, &POLICY, now).at;
        let looks = due.duration_since(now).as_nanos() / MAX_LOOK.as_nanos();
        now + MAX_LOOK * i32::try_from(looks).unwrap()
    }

    fn stored(&mut self) -> Option<&mut Stored> {
        match &mut self.have.secret {
            SecretState::Holds(stored) => Some(stored),
            _ => None,
        }
    }
}

impl Simulation {
    fn new(ca: Ca) -> Self {
        Self {
            now: start(),
            ca,
            certificates: (0..COUNT).map(Certificate::new).collect(),
            events: BinaryHeap::new(),
            renewed: Vec::new(),
            gaps: Vec::new(),
            replaced: Vec::new(),
        }
    }

    fn run(&mut self, until: Timestamp) {
        while let Some(Reverse((time, event))) = self.events.pop() {
            if time > until {
                break;
            }
            self.now = time;
            match event {
                Event::Look { certificate, number } => {
                    if self.certificates[certificate].looks == number {
                        self.reconcile(certificate);
                    }
                }
                Event::Ask { certificate, number } => {
                    if self.certificates[certificate].questions == number {
                        self.ask(certificate);
                    }
                }
                Event::Restart => self.restart(),
                Event::Revoke => self.ca.revoke_all(LIVES[2], time),
            }
        }
    }

    fn look_at(&mut self, certificate: usize, time: Timestamp) {
        let number = self.certificates[certificate].looks + 1;
        self.certificates[certificate].looks = number;
        self.events.push(Reverse((time, Event::Look { certificate, number })));
    }

    fn ask_at(&mut self, certificate: usize, time: Timestamp) {
        let number = self.certificates[certificate].questions + 1;
        self.certificates[certificate].questions = number;
        self.events.push(Reverse((time, Event::Ask { certificate, number })));
    }

    /// Loses the state in memory and plans everything again.
    fn restart(&mut self) {
        let now = self.now;
        for number in 0..COUNT {
            self.certificates[number].transient_wait = None;
            self.certificates[number].failed_questions = 0;
            self.look_at(number, now);
            let wait = pseudo_random(SECOND * 200, "restart", number);
            self.ask_at(number, now + wait);
        }
    }

    /// One reconciliation: plan and act, until the plan is to wait.
    fn reconcile(&mut self, number: usize) {
        let now = self.now;
        loop {
            let it = &mut self.certificates[number];
            let plan = plan(&it.want, &it.have, &POLICY, now);
            match plan.action {
                Action::Keep | Action::Hold => {
                    assert!(plan.look_again > now, "{plan:?}");
                    let is_idle = plan.action == Action::Keep && plan.look_again == now + MAX_LOOK;
                    let skips = is_idle && !number.is_multiple_of(DAILY);
                    let time = if skips { it.last_idle_look(now) } else { plan.look_again };
                    return self.look_at(number, time);
                }
                Action::Start => self.order(number, plan.replaces),
                Action::Resume => self.finish(number),
                Action::Share | Action::Rewrite | Action::Refuse => panic!("{plan:?}"),
            }
        }
    }

    fn order(&mut self, number: usize, replaces: Option<CertId>) {
        let now = self.now;
        let it = &mut self.certificates[number];
        assert!(
            it.retry_after.is_none_or(|retry_after| now >= retry_after),
            "earlier than the CA said"
        );
        match self.ca.order(number, replaces.as_ref(), now) {
            Ok(()) => {
                let fingerprint = Fingerprint::stored(&number.to_string());
                it.have.running =
                    Some(Running { fingerprint, not_before: Some(now + SECOND * 20) });
                (it.replaces, it.retry_after) = (replaces, None);
            }
            Err(failure) => {
                if let Disposition::Until(time) = failure {
                    it.retry_after = Some(time);
                }
                let previous = it.have.backoff.map(|backoff| backoff.interval);
                it.have.backoff = Some(backoff::after(failure, previous, now));
            }
        }
    }

    fn finish(&mut self, number: usize) {
        let now = self.now;
        let it = &mut self.certificates[number];
        if let Err(failure) = self.ca.answers(now) {
            let wait = backoff::after(failure, it.transient_wait, now);
            it.transient_wait = Some(wait.interval);
            it.have.running.as_mut().unwrap().not_before = Some(wait.until);
            return;
        }
        let leaf = self.ca.issue(number, it.life, it.replaces.take().as_ref(), now);
        (it.have.running, it.have.backoff, it.transient_wait) = (None, None, None);
        if let Some(old) = it.stored().map(|stored| stored.leaf.clone()) {
            if old.not_after < now {
                self.gaps.push((old.not_after, now));
            }
            if self.ca.is_revoked(&old) {
                self.replaced.push(now);
            }
            self.renewed.push((now, self.certificates[number].life));
        }
        let it = &mut self.certificates[number];
        it.have.secret = SecretState::Holds(Stored {
            leaf,
            fingerprint: Some(Fingerprint::stored(&number.to_string())),
            requested_at: now,
            revoked: false,
            layout_is_current: true,
            suggested: None,
            record: crate::plan::Record::Found,
        });
        let wait = HOUR + pseudo_random(HOUR * 5, "rest", self.renewed.len());
        self.ask_at(number, now + wait);
    }

    /// Fetches renewal information, as the manager does.
    fn ask(&mut self, number: usize) {
        let now = self.now;
        let it = &mut self.certificates[number];
        let Some(stored) = it.stored() else { return };
        let Some(id) = stored.leaf.id.clone() else { return };
        let next = match self.ca.renewal_info(&id, now) {
            Answer::Nothing => return,
            Answer::Failure => {
                let wait = SECOND * 300 * 2_i32.pow(it.failed_questions.min(7));
                it.failed_questions += 1;
                return self.ask_at(number, now + wait.min(HOUR * 6));
            }
            Answer::Window { window, explanation_url, again } => {
                let known = stored.suggested.as_ref().map(|it| (it.start, it.end));
                if known != Some(window) {
                    stored.suggested = Some(Box::new(Suggested::new(id, window, explanation_url)));
                    self.look_at(number, now);
                }
                self.certificates[number].failed_questions = 0;
                again
            }
        };
        self.ask_at(number, next);
    }
}

/// Renewals per hour: maximum and mean.
fn spread(renewed: &[(Timestamp, SignedDuration)], what: &str) -> (usize, f64) {
    let mut hours = BTreeMap::<i64, usize>::new();
    for (time, _) in renewed {
        *hours.entry(time.duration_since(start()).as_hours()).or_default() += 1;
    }
    let span = hours.keys().max().unwrap_or(&0) - hours.keys().min().unwrap_or(&0) + 1;
    let most = hours.values().copied().max().unwrap_or_default();
    let mean = renewed.len() as f64 / span as f64;
    println!("{what}: {} renewals, {mean:.2} per hour on average, {most} at most", renewed.len());
    (most, mean)
}

#[test]
fn no_certificate_expires_in_two_years_while_its_ca_is_reachable() {
    let down = [(day(120), day(127)), (day(480), day(487)), (day(650), day(651))];
    let revoked_at = day(300);
    let mut simulation = Simulation::new(Ca::new(&down, true).will_revoke(revoked_at));
    // Certificates are created in the course of a week.
    for number in 0..COUNT {
        simulation.look_at(number, start() + pseudo_random(DAY * 7, "created", number));
    }
    simulation.events.push(Reverse((revoked_at, Event::Revoke)));
    for number in [30, 123, 487, 600] {
        simulation.events.push(Reverse((day(number), Event::Restart)));
    }
    // In the rush after a revocation.
    simulation.events.push(Reverse((revoked_at + HOUR * 2, Event::Restart)));
    simulation.run(day(730));

    let calm = |time: &Timestamp| {
        let upset = |from: Timestamp, to: Timestamp| from <= *time && *time <= to;
        !down.iter().any(|(from, to)| upset(*from, *to + DAY))
            && !upset(revoked_at, revoked_at + GRACE)
    };
    for (life, name, count) in
        [(LIVES[0], "6 days", 200), (LIVES[1], "45 days", 400), (LIVES[2], "90 days", 400)]
    {
        let of_it: Vec<_> = simulation
            .renewed
            .iter()
            .filter(|(time, it)| *it == life && calm(time))
            .copied()
            .collect();
        let (most, _) = spread(&of_it, name);
        // An outage collects renewals that fall due meanwhile. Afterwards the CA's windows, two
        // percent of the lifetime, spread them.
        let window = f64::from(i32::try_from(life.as_hours()).unwrap()) / 50.0;
        let together = f64::from(count) / window;
        assert!(most as f64 <= 1.5 * together + 10.0, "{name}: {most} in an hour");
    }
    spread(&simulation.renewed, "all, with outages and revocation");

    let Ca { orders, exempt, refused, .. } = simulation.ca;
    println!("{orders} orders, {exempt} exempt from limits, {refused} refused by limits");
    for (ended, renewed) in &simulation.gaps {
        let excused = down.iter().any(|(from, to)| ended >= from && *renewed <= *to + RECOVERY);
        assert!(excused, "one ended at {ended} and was renewed at {renewed}");
    }
    println!("{} ended during outages, of those of 6 days", simulation.gaps.len());
    for certificate in &mut simulation.certificates {
        let stored = certificate.stored().unwrap();
        assert!(stored.leaf.not_after > day(730), "{}", stored.leaf.not_after);
    }
    let late = simulation.replaced.iter().max().unwrap().duration_since(revoked_at);
    println!("{} were revoked, the last was replaced after {late:#}", simulation.replaced.len());
    assert!(simulation.replaced.len() > COUNT / 4 && late < GRACE, "{late:#}");
    // The first of each, and those that expired during an outage, are new orders for the CA.
    assert!(refused <= 1_000, "{refused} refused");
    assert!(exempt * 100 >= orders * 97, "{exempt} of {orders}");
}

#[test]
fn certificates_issued_in_one_hour_are_not_renewed_in_one_hour_without_renewal_information() {
    let mut simulation = Simulation::new(Ca::new(&[], false).without_account_limit());
    for number in 0..COUNT {
        simulation.look_at(number, start() + pseudo_random(HOUR, "created", number));
    }
    simulation.run(day(365));
    assert!(simulation.gaps.is_empty());
    for (life, most_allowed) in LIVES.into_iter().zip([60, 20, 15]) {
        let of_it: Vec<_> =
            simulation.renewed.iter().filter(|(_, it)| *it == life).copied().collect();
        let (most, _) = spread(&of_it, &format!("{life:#}"));
        assert!(most <= most_allowed, "{most} of {life:#} in an hour");
    }
    assert_eq!(simulation.ca.refused, 0);
}
