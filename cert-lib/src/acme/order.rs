//! The state machine of an order (RFC 8555 section 7.1.6): decides the next step.
//!
//! Pure: [`next`] takes a [`View`] and the time and returns a [`Step`]. The caller performs the
//! step and records the result in the view. A lost view is rebuilt from the order at the CA, so
//! every step must be right for an order that is further along than this process remembers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    acme::wire::{
        Authorization, AuthorizationStatus, Challenge, ChallengeKind, ChallengeStatus, Identifier,
        Order, OrderStatus, Token,
    },
    model::{name::DnsName, phase::Phase},
    solve::Proof,
};

/// What this process knows of a running order. Has no `Debug`: it contains tokens.
#[derive(Clone)]
pub(crate) struct View {
    /// The order object that the CA returned last.
    pub(crate) order: Order,
    /// When it was placed.
    placed: Timestamp,
    /// When the CA expires the order. Unset where that time was in the past already: then our clock
    /// is wrong.
    expires: Option<Timestamp>,
    /// Fetched only when control must be proved.
    pub(crate) authorizations: Option<Vec<Authorization>>,
    /// The proofs that this process published.
    pub(crate) proofs: Vec<Proof>,
    /// Thumbprint of the account key of the proofs.
    signer: String,
    stage: Stage,
    /// Polls since `stage` began.
    polls: u32,
    next_poll: Timestamp,
}

/// The last step of this process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Nothing yet.
    Placed,
    /// Published the proofs.
    Presented { since: Timestamp },
    /// Checked that the CA will see the proofs.
    Visible,
    /// Responded to the challenges.
    Answered,
    /// Sent the signing request.
    Finalized,
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Fetch the authorizations.
    Authorize,
    /// Publish the proofs.
    Present,
    /// Check whether the proofs, published at this instant, are visible.
    Look { since: Timestamp },
    /// Respond to the challenges.
    Answer,
    /// Fetch the order.
    Poll,
    /// Wait until this instant.
    Wait { doing: Phase, until: Timestamp },
    /// Send the signing request.
    Finalize,
    /// Fetch the certificate from this URL.
    Download(String),
    /// The order failed: fetch the reason.
    Explain,
    /// The order timed out.
    Expire,
}

/// The step table.
pub(crate) fn next(view: &View, now: Timestamp) -> Step {
    match view.order.status {
        OrderStatus::Invalid => Step::Explain,
        OrderStatus::Valid => match &view.order.certificate {
            Some(url) => Step::Download(url.clone()),
            None => view.poll(Phase::Signing, now),
        },
        // The replicas of a CA may lag behind each other and report the order as ready for a
        // moment. After some polls the signing request is sent again.
        OrderStatus::Ready if view.stage == Stage::Finalized => {
            let asks_again = view.polls > 0 && view.polls.is_multiple_of(LAGGING_POLLS);
            match asks_again && now >= view.next_poll && !view.is_expired(now) {
                true => Step::Finalize,
                false => view.poll(Phase::Signing, now),
            }
        }
        OrderStatus::Pending | OrderStatus::Ready if view.is_expired(now) => Step::Expire,
        OrderStatus::Ready => Step::Finalize,
        OrderStatus::Processing => view.poll(Phase::Signing, now),
        OrderStatus::Pending => prove(view, now),
        OrderStatus::Unknown if view.stage == Stage::Finalized => view.poll(Phase::Signing, now),
        OrderStatus::Unknown => view.poll(Phase::Validating, now),
    }
}

/// The steps while control must be proved.
fn prove(view: &View, now: Timestamp) -> Step {
    match (view.stage, &view.authorizations) {
        (Stage::Placed, None) => Step::Authorize,
        (Stage::Placed, Some(all)) if all.iter().any(is_over) => Step::Explain,
        (Stage::Placed, Some(all)) if all.iter().any(is_open) => Step::Present,
        (Stage::Presented { since }, _) => Step::Look { since },
        (Stage::Visible, _) => Step::Answer,
        // Fetched again, because the CA did not accept the response.
        (Stage::Answered, Some(all)) if all.iter().any(is_over) => Step::Explain,
        // All names are proved, but the CA has not updated the order yet.
        (Stage::Placed | Stage::Answered | Stage::Finalized, _) => {
            view.poll(Phase::Validating, now)
        }
    }
}

impl View {
    /// A view of an order that was `placed` some time ago and that this process does not know yet.
    pub(crate) fn of(
        order: Order,
        placed: Timestamp,
        now: Timestamp,
        next_poll: Timestamp,
    ) -> Self {
        let expires = order.expires.filter(|time| *time > now);
        Self {
            order,
            placed,
            expires,
            authorizations: None,
            proofs: Vec::new(),
            signer: String::new(),
            stage: Stage::Placed,
            polls: 0,
            next_poll,
        }
    }

    /// The authorizations were fetched.
    pub(crate) fn authorized(&mut self, authorizations: Vec<Authorization>) {
        self.authorizations = Some(authorizations);
    }

    /// `proofs` are published.
    pub(crate) fn presented(&mut self, proofs: Vec<Proof>, now: Timestamp) {
        self.proofs = proofs;
        self.stage = Stage::Presented { since: now };
    }

    /// Sets the current account key. Proofs of another key are invalid unless the challenges were
    /// triggered already, and are published again.
    pub(crate) fn signed_by(&mut self, thumbprint: &str) {
        let published = matches!(self.stage, Stage::Presented { .. } | Stage::Visible);
        if published && self.signer != thumbprint {
            self.stage = Stage::Placed;
        }
        thumbprint.clone_into(&mut self.signer);
    }

    /// The proofs are visible.
    pub(crate) fn seen(&mut self) {
        self.stage = Stage::Visible;
    }

    /// The challenges were triggered; the next poll is at `next_poll`.
    pub(crate) fn answered(&mut self, next_poll: Timestamp) {
        self.stage = Stage::Answered;
        self.polls = 0;
        self.next_poll = next_poll;
    }

    /// The signing request was sent; the next poll is at `next_poll`.
    pub(crate) fn finalized(&mut self, order: Option<Order>, next_poll: Timestamp) {
        // A repeated request does not poll faster.
        self.polls = if self.is_finalized() { self.polls.saturating_add(1) } else { 0 };
        self.stage = Stage::Finalized;
        self.next_poll = next_poll;
        self.order = order.unwrap_or_else(|| self.order.clone());
    }

    /// The signing request is being sent. Without a reply, the order must be polled before the
    /// request is sent again: the CA may have accepted it. Returns the status until then.
    pub(crate) fn finalize_unknown(&mut self) -> OrderStatus {
        std::mem::replace(&mut self.order.status, OrderStatus::Unknown)
    }

    /// The CA certainly did not accept the signing request.
    pub(crate) fn finalize_known(&mut self, known: OrderStatus) {
        self.order.status = known;
    }

    /// The challenge at `url` was triggered.
    pub(crate) fn challenge_triggered(&mut self, url: &str) {
        let authorizations = self.authorizations.iter_mut().flatten();
        let mut challenges = authorizations.flat_map(|it| &mut it.challenges);
        if let Some(challenge) = challenges.find(|it| it.url == url) {
            challenge.status = ChallengeStatus::Processing;
        }
    }

    /// The order was fetched again.
    pub(crate) fn polled(&mut self, order: Order, next_poll: Timestamp) {
        self.order = order;
        self.polls = self.polls.saturating_add(1);
        self.next_poll = next_poll;
    }

    /// Whether the signing request was sent and the proofs were removed.
    pub(crate) fn is_finalized(&self) -> bool {
        self.stage == Stage::Finalized
    }

    /// Whether the CA may have signed already.
    pub(crate) fn may_be_signed(&self) -> bool {
        let status = self.order.status;
        let may = [OrderStatus::Processing, OrderStatus::Valid, OrderStatus::Unknown];
        self.is_finalized() || may.contains(&status)
    }

    /// Polls since the current stage began.
    pub(crate) fn polls(&self) -> u32 {
        self.polls
    }

    /// The challenges without a valid response, with the names to be proved.
    ///
    /// # Errors
    /// See [`Unprovable`].
    pub(crate) fn open(&self) -> Result<Vec<PendingChallenge<'_>>, Unprovable> {
        let all = self.authorizations.iter().flatten();
        all.filter(|authorization| is_open(authorization)).map(PendingChallenge::of).collect()
    }

    /// Polls when it is due, however late: the CA may have finished in the meantime.
    fn poll(&self, doing: Phase, now: Timestamp) -> Step {
        let age = now.duration_since(self.placed);
        if now >= self.next_poll {
            Step::Poll
        } else if self.is_expired(now) || age >= GIVE_UP {
            Step::Expire
        } else {
            let doing = if age >= DELAYED_AFTER { Phase::Delayed(self.placed) } else { doing };
            Step::Wait { doing, until: self.next_poll }
        }
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|time| time <= now)
    }
}

/// A challenge without a valid response.
#[derive(Clone)]
pub(crate) struct PendingChallenge<'a> {
    pub(crate) of: ProofKind,
    pub(crate) token: &'a Token,
    pub(crate) url: &'a str,
    /// The challenge was triggered already, by this process or another.
    pub(crate) answered: bool,
}

/// The identifier to prove control of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ProofKind {
    /// A name, without the `*.` of a wildcard: by DNS-01.
    Name(DnsName),
    /// An address (RFC 8738), which DNS-01 cannot prove: by HTTP-01.
    Address(IpAddr),
}

/// The CA requires a proof that is not possible.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Unprovable {
    /// The challenge type is not offered.
    #[error("the CA offers no {0} challenge for {1}")]
    NotOffered(&'static str, String),
    /// The name was not requested.
    #[error("the CA asks for a proof of {0}, which was not requested")]
    OtherName(String),
}

impl<'a> PendingChallenge<'a> {
    fn of(authorization: &'a Authorization) -> Result<Self, Unprovable> {
        let Identifier { kind, value } = &authorization.identifier;
        let other = || Unprovable::OtherName(describe(authorization));
        let (of, wanted, word) = if kind == "ip" {
            let address = value.parse().map_err(|_| other())?;
            (ProofKind::Address(address), ChallengeKind::Http01, "HTTP01")
        } else {
            let name = value.parse().map_err(|_| other())?;
            (ProofKind::Name(name), ChallengeKind::Dns01, "DNS01")
        };
        let missing = || Unprovable::NotOffered(word, describe(authorization));
        let fits = |one: &&Challenge| one.kind == wanted;
        let challenge = authorization.challenges.iter().find(fits).ok_or_else(missing)?;
        Ok(Self {
            of,
            token: challenge.token.as_ref().ok_or_else(missing)?,
            url: &challenge.url,
            answered: challenge.status == ChallengeStatus::Processing,
        })
    }
}

/// One proof per challenge name with all of its values: a wildcard and its parent share one.
/// Nothing is published for addresses.
pub(crate) fn proofs(
    open: &[PendingChallenge<'_>],
    value_of: impl Fn(&Token) -> String,
) -> Vec<Proof> {
    let mut values: BTreeMap<DnsName, BTreeSet<String>> = BTreeMap::new();
    for one in open {
        if let ProofKind::Name(name) = &one.of {
            values.entry(name.challenge()).or_default().insert(value_of(one.token));
        }
    }
    let values = values.into_iter();
    values.map(|(name, of)| Proof::at_challenge(name, of.into_iter().collect())).collect()
}

/// An authorization's name as it was requested.
pub(crate) fn describe(authorization: &Authorization) -> String {
    let value = &authorization.identifier.value;
    match authorization.wildcard {
        true if !value.starts_with("*.") => format!("*.{value}"),
        _ => value.clone(),
    }
}

/// The interval until the next poll: `first`, doubled with each of `polls` up to `longest`. An
/// order that takes minutes is then polled every minute, one that takes hours every ten minutes.
pub(crate) fn poll_interval(
    first: SignedDuration,
    longest: SignedDuration,
    polls: u32,
) -> SignedDuration {
    if let Some((_, patience)) = SLOW_POLL_FACTORS.iter().find(|(from, _)| polls > *from) {
        return longest.saturating_mul(*patience);
    }
    let factor = 1_i32.checked_shl(polls.min(30)).unwrap_or(i32::MAX);
    first.saturating_mul(factor).min(longest)
}

pub(crate) fn is_open(authorization: &Authorization) -> bool {
    matches!(authorization.status, AuthorizationStatus::Pending | AuthorizationStatus::Unknown)
}

/// Whether the order cannot succeed any more. The CA may take a moment to mark the order as
/// invalid.
pub(crate) fn is_over(authorization: &Authorization) -> bool {
    match authorization.status {
        AuthorizationStatus::Invalid
        | AuthorizationStatus::Deactivated
        | AuthorizationStatus::Expired
        | AuthorizationStatus::Revoked => true,
        AuthorizationStatus::Pending
        | AuthorizationStatus::Valid
        | AuthorizationStatus::Unknown => false,
    }
}

const LAGGING_POLLS: u32 = 4;
/// More polls than the first number multiply the longest interval by the second.
const SLOW_POLL_FACTORS: [(u32, i32); 2] = [(120, 120), (60, 12)];
/// From this age on, the status reports that the CA is slow.
const DELAYED_AFTER: SignedDuration = SignedDuration::from_mins(10);
/// The age at which an order without progress is given up, if the CA does not expire it.
pub(crate) const GIVE_UP: SignedDuration = SignedDuration::from_hours(24);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// An order placed at 0 that may be polled from 10 on.
    fn given(status: &str) -> View {
        let order = json!({"status": status, "finalize": "f", "expires": at(1000).to_string()});
        View::of(serde_json::from_value(order).unwrap(), at(0), at(0), at(10))
    }

    impl View {
        fn with_certificate(mut self) -> Self {
            self.order.certificate = Some("c".to_owned());
            self
        }

        fn with_authorizations(mut self, statuses: &[&str]) -> Self {
            let one =
                |status: &&str| authorization("example.org", false, status, "dns-01", "pending");
            self.authorized(statuses.iter().map(one).collect());
            self
        }

        fn at_stage(mut self, stage: Stage) -> Self {
            self.stage = stage;
            self
        }

        fn after_polls(mut self, polls: u32) -> Self {
            self.polls = polls;
            self
        }
    }

    fn authorization(
        name: &str,
        wildcard: bool,
        status: &str,
        kind: &str,
        challenge: &str,
    ) -> Authorization {
        serde_json::from_value(json!({
            "identifier": {"type": "dns", "value": name}, "status": status, "wildcard": wildcard,
            "challenges": [{"type": kind, "url": "u", "status": challenge, "token": name}],
        }))
        .unwrap()
    }

    #[test]
    fn an_order_that_stays_ready_is_finalized_again_after_four_polls() {
        let view = |polls| given("ready").at_stage(Stage::Finalized).after_polls(polls);
        for (polls, step) in [(3, Step::Poll), (4, Step::Finalize), (5, Step::Poll)] {
            let wait = Step::Wait { doing: Phase::Signing, until: at(10) };
            assert_eq!(next(&view(polls), at(5)), wait, "{polls}");
            assert_eq!(next(&view(polls), at(10)), step, "{polls}");
        }
        let mut again = view(4);
        again.finalized(None, at(20));
        assert_eq!(again.polls(), 5);
    }

    #[test]
    fn each_state_has_its_next_step() {
        let wait = |doing| Step::Wait { doing, until: at(10) };
        let validating = || wait(Phase::Validating);
        let signing = || wait(Phase::Signing);
        let presented = Stage::Presented { since: at(3) };
        let rows = [
            // Just placed, or resumed by a new process.
            (given("pending"), Step::Authorize),
            (given("ready"), Step::Finalize),
            (given("processing"), signing()),
            (given("valid").with_certificate(), Step::Download("c".to_owned())),
            (given("valid"), signing()),
            (given("invalid"), Step::Explain),
            (given("pondering"), validating()),
            // The authorizations are known.
            (given("pending").with_authorizations(&["pending"]), Step::Present),
            (given("pending").with_authorizations(&["valid", "pending"]), Step::Present),
            (given("pending").with_authorizations(&["valid"]), validating()),
            (given("pending").with_authorizations(&["valid", "invalid"]), Step::Explain),
            (given("pending").with_authorizations(&["expired"]), Step::Explain),
            // Proving.
            (given("pending").at_stage(presented), Step::Look { since: at(3) }),
            (given("pending").at_stage(Stage::Visible), Step::Answer),
            (given("pending").at_stage(Stage::Answered), validating()),
            (
                given("pending").with_authorizations(&["deactivated"]).at_stage(Stage::Answered),
                Step::Explain,
            ),
            (given("ready").at_stage(Stage::Answered), Step::Finalize),
            (given("invalid").at_stage(Stage::Answered), Step::Explain),
            // Another client may have been quicker.
            (given("ready").at_stage(presented), Step::Finalize),
            // Signing.
            (given("processing").at_stage(Stage::Finalized), signing()),
            (given("ready").at_stage(Stage::Finalized), signing()),
            (given("pondering").at_stage(Stage::Finalized), signing()),
            (given("invalid").at_stage(Stage::Finalized), Step::Explain),
        ];
        for (index, (view, want)) in rows.into_iter().enumerate() {
            assert_eq!(next(&view, at(5)), want, "row {index}");
            let later = if matches!(want, Step::Wait { .. }) { Step::Poll } else { want };
            assert_eq!(next(&view, at(10)), later, "row {index}, when it is time to poll");
        }
    }

    #[test]
    fn an_order_expires_unless_it_was_expired_at_first() {
        for (status, want) in [
            ("pending", Step::Expire),
            ("ready", Step::Expire),
            ("processing", Step::Poll),
            ("invalid", Step::Explain),
        ] {
            assert_eq!(next(&given(status), at(1000)), want, "{status}");
        }
        // One that is still in progress is polled once more.
        for (next_poll, want) in [(at(1000), Step::Poll), (at(1001), Step::Expire)] {
            let view = View { next_poll, ..given("processing") };
            assert_eq!(next(&view, at(1000)), want);
        }
        let order = given("ready").order;
        assert_eq!(next(&View::of(order, at(2000), at(2000), at(2000)), at(2001)), Step::Finalize);
    }

    #[test]
    fn a_wildcard_and_its_parent_share_one_proof() {
        let mut view = given("pending");
        view.authorized(vec![
            authorization("b.example.org", false, "pending", "dns-01", "processing"),
            authorization("example.org", true, "pending", "dns-01", "pending"),
            authorization("example.org", false, "pending", "dns-01", "pending"),
            authorization("done.example.org", false, "valid", "dns-01", "valid"),
        ]);
        let open = view.open().unwrap();
        assert_eq!(open.iter().map(|one| one.answered).collect::<Vec<_>>(), [true, false, false]);
        let number = std::cell::Cell::new(9);
        let proofs = proofs(&open, |_| {
            number.set(number.get() - 1);
            format!("value{}", number.get())
        });
        let txt = |name: &str, values: &[&str]| {
            let values = values.iter().map(|text| (*text).to_owned()).collect();
            Proof::at_challenge(name.parse().unwrap(), values)
        };
        let want = [
            txt("_acme-challenge.b.example.org", &["value8"]),
            txt("_acme-challenge.example.org", &["value6", "value7"]),
        ];
        assert!(proofs == want);
    }

    #[test]
    fn an_impossible_challenge_is_named() {
        let mut view = given("pending");
        view.authorized(vec![authorization("example.org", true, "pending", "http-01", "pending")]);
        let error = view.open().err().unwrap().to_string();
        assert_eq!(error, "the CA offers no DNS01 challenge for *.example.org");
        view.authorized(vec![authorization("10.0.0.1", false, "pending", "dns-01", "pending")]);
        let error = view.open().err().unwrap().to_string();
        assert_eq!(error, "the CA asks for a proof of 10.0.0.1, which was not requested");
    }

    /// faults.md 18
    #[test]
    fn a_slow_order_is_reported_as_delayed_and_given_up_after_a_day() {
        let mut view = given("processing");
        view.expires = None;
        view.next_poll = at(100_000);
        let delayed = Step::Wait { doing: Phase::Delayed(at(0)), until: at(100_000) };
        let signing = Step::Wait { doing: Phase::Signing, until: at(100_000) };
        for (time, want) in
            [(599, signing), (600, delayed.clone()), (86_399, delayed), (86_400, Step::Expire)]
        {
            assert_eq!(next(&view, at(time)), want, "after {time} s");
        }
    }

    #[test]
    fn the_poll_interval_grows() {
        let milliseconds = |polls| {
            let (first, longest) = (SignedDuration::from_millis(50), SignedDuration::from_secs(5));
            poll_interval(first, longest, polls).as_millis()
        };
        assert_eq!(
            [0, 1, 2, 6, 7, 60, 61, 120, 121, u32::MAX].map(milliseconds),
            [50, 100, 200, 3200, 5000, 5000, 60_000, 60_000, 600_000, 600_000]
        );
    }

    #[test]
    fn proofs_of_an_old_account_key_are_published_again_until_the_challenges_are_triggered() {
        for (stage, again) in [
            (Stage::Presented { since: at(0) }, true),
            (Stage::Visible, true),
            (Stage::Answered, false),
        ] {
            let mut view = given("pending").with_authorizations(&["pending"]);
            view.signed_by("old");
            view.stage = stage;
            view.signed_by("old");
            assert_eq!(view.stage, stage);
            view.signed_by("new");
            assert_eq!(next(&view, at(1)) == Step::Present, again, "{stage:?}");
        }
    }
}
