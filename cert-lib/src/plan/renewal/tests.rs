use super::*;
use crate::{
    model::cert_id::CertId,
    plan::fixtures::{POLICY, want},
};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn begin() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn leaf(life: SignedDuration) -> Leaf {
    Leaf {
        digest: crate::model::bundle::LeafDigest::of(b"leaf"),
        serial: "0a0b".into(),
        not_before: begin(),
        not_after: begin() + life - SignedDuration::from_secs(1),
        names: ["example.org".parse().unwrap()].into(),
        public_key: vec![],
        is_ca: false,
        is_self_issued: false,
        id: Some(id("a.b")),
    }
}

fn id(text: &str) -> CertId {
    serde_json::from_value(serde_json::json!(text)).unwrap()
}

/// Remaining lifetime at the renewal.
fn left(leaf: &Leaf, want: &Want, policy: &Policy) -> SignedDuration {
    let serving = ServingCertificate { leaf, requested_at: leaf.not_before, suggested: None };
    let due = due(&serving, want, policy, leaf.not_before);
    leaf.not_after.duration_since(due.at) + SignedDuration::from_secs(1)
}

fn suggested(from_day: i64, to_day: i64) -> Suggested {
    about("a.b", from_day, to_day)
}

fn about(certificate: &str, from_day: i64, to_day: i64) -> Suggested {
    let day = |number: i64| begin() + DAY * i32::try_from(number).unwrap();
    Suggested::new(id(certificate), (day(from_day), day(to_day)), None)
}

fn due_with(leaf: &Leaf, suggested: &Suggested, want: &Want) -> Due {
    let serving =
        ServingCertificate { leaf, requested_at: leaf.not_before, suggested: Some(suggested) };
    due(&serving, want, &POLICY, leaf.not_before)
}

#[test]
fn a_third_of_the_lifetime_is_left_or_half_of_a_short_one_minus_a_tenth() {
    let wide = Policy { renewal_window: DAY * 60, ..POLICY };
    let narrow = Policy { renewal_window: DAY, ..POLICY };
    let percent = Policy { renew_before_percentage: Some(20), ..POLICY };
    for (life, policy, most) in [
        (DAY * 90, &POLICY, DAY * 30),
        (DAY * 398, &POLICY, DAY * 30),
        (DAY * 64, &POLICY, DAY * 64 / 3),
        (DAY * 45, &POLICY, DAY * 15),
        (DAY * 10, &POLICY, DAY * 10 / 3),
        (HOUR * 160, &POLICY, HOUR * 80),
        (DAY * 90, &wide, DAY * 60),
        (DAY * 45, &wide, DAY * 15),
        (DAY * 45, &narrow, DAY),
        (DAY * 45, &percent, DAY * 9),
        (DAY * 3650, &percent, DAY * 730),
    ] {
        let left = left(&leaf(life), &want(), policy);
        assert!(left <= most && left >= most - most / 10, "{life:?} {policy:?}: {left:?}");
    }
}

/// RFC 5280 section 4.1.2.5: no well-defined expiration date. And other unusual dates.
#[test]
fn certificates_with_extreme_dates_are_renewed_before_their_end() {
    let dates = [Timestamp::MIN, begin(), Timestamp::MAX];
    for (not_before, not_after) in dates.into_iter().flat_map(|a| dates.map(|b| (a, b))) {
        let leaf = Leaf { not_before, not_after, ..leaf(DAY) };
        let windows = [want(), Want { renew_before: Some(DAY * 30), ..want() }];
        let percent = Want { renew_before_percentage: Some(99), ..want() };
        for want in windows.iter().chain([&percent]) {
            for (requested_at, now) in dates.into_iter().flat_map(|a| dates.map(|b| (a, b))) {
                let serving = ServingCertificate { leaf: &leaf, requested_at, suggested: None };
                let due = due(&serving, want, &POLICY, now);
                let is_usual = not_before < not_after && requested_at < not_after;
                assert!(!is_usual || due.at <= not_after, "{not_before} {not_after}: {due:?}");
                let _ = is_emergency(&leaf, requested_at, now);
            }
        }
    }
}

#[test]
fn the_settings_of_the_certificate_apply_to_the_second() {
    let rows: [(Option<SignedDuration>, Option<u8>, SignedDuration); 4] = [
        (Some(DAY * 40), None, DAY * 40),
        (None, Some(50), DAY * 45),
        (Some(DAY * 40), Some(50), DAY * 40),
        // A certificate is never renewed in the first tenth of its lifetime.
        (None, Some(99), DAY * 81),
    ];
    for (renew_before, renew_before_percentage, wanted) in rows {
        let want = Want { renew_before, renew_before_percentage, ..want() };
        let left = left(&leaf(DAY * 90), &want, &POLICY);
        assert!((left - wanted).abs() <= SignedDuration::from_secs(1), "{want:?}: {left:?}");
    }
}

#[test]
fn a_window_as_long_as_the_lifetime_is_ignored() {
    let usual = left(&leaf(DAY * 45), &want(), &POLICY);
    for renew_before in [DAY * 45, DAY * 400, SignedDuration::MAX] {
        let want = Want { renew_before: Some(renew_before), ..want() };
        assert_eq!(left(&leaf(DAY * 45), &want, &POLICY), usual, "{renew_before:?}");
    }
}

#[test]
fn certificates_issued_together_are_not_renewed_together() {
    let mut hours = std::collections::BTreeMap::<i64, usize>::new();
    for number in 0..10_000 {
        let leaf = Leaf { serial: format!("{number:x}"), ..leaf(DAY * 90) };
        *hours.entry(left(&leaf, &want(), &POLICY).as_hours()).or_default() += 1;
    }
    let most = hours.values().max().unwrap();
    assert!(hours.len() >= 72 && *most < 250, "{} hours, {most} in one", hours.len());
}

#[test]
fn the_selected_instant_stays_until_the_window_changes() {
    let leaf = leaf(DAY * 90);
    let first = suggested(50, 52);
    let drawn = due_with(&leaf, &first, &want());
    assert_eq!(drawn, Due { at: first.selected(), why: Cause::Ca(None) });
    assert!(first.start <= drawn.at && drawn.at <= first.end, "{drawn:?}");
    assert_eq!(due_with(&leaf, &first.clone(), &want()), drawn);
    let explained = Suggested { explanation_url: Some("https://ca/why".into()), ..first.clone() };
    assert_eq!(explained.selected(), first.selected());
    assert_ne!(suggested(50, 53).selected(), drawn.at);
}

#[test]
fn selected_instants_are_uniform_in_the_window() {
    let mut quarters = [0; 4];
    for number in 0..4_000 {
        let suggested = about(&format!("a.{number}"), 0, 4);
        let day = suggested.selected().duration_since(begin()).as_hours() / 24;
        quarters[usize::try_from(day).unwrap()] += 1;
    }
    assert!(quarters.iter().all(|count| (850..1_150).contains(count)), "{quarters:?}");
}

#[test]
fn the_earlier_of_ca_window_and_certificate_settings_counts() {
    let leaf = leaf(DAY * 90);
    for (renew_before, why) in
        [(DAY * 60, Cause::Age), (DAY * 10, Cause::Ca(None)), (DAY * 400, Cause::Ca(None))]
    {
        let want = Want { renew_before: Some(renew_before), ..want() };
        assert_eq!(due_with(&leaf, &suggested(50, 52), &want).why, why, "{renew_before:?}");
    }
}

#[test]
fn an_implausible_window_is_ignored() {
    let leaf = leaf(DAY * 90);
    let by_age = due_with(&leaf, &about("x.y", 1, 2), &want());
    assert_eq!(by_age.why, Cause::Age);
    for window in [suggested(52, 50), suggested(50, 50), suggested(50, 100), suggested(91, 92)] {
        assert_eq!(due_with(&leaf, &window, &want()), by_age, "{window:?}");
    }
    assert_eq!(due_with(&Leaf { id: None, ..leaf.clone() }, &suggested(1, 2), &want()), by_age);
}

#[test]
fn a_renewal_waits_for_its_weekly_window_unless_the_ca_requests_an_early_one() {
    // Sundays, and the certificate begins on one.
    let sundays =
        super::renewal_window::RenewalWindow::new(&["Sun".into()], "12:00", HOUR, None).unwrap();
    let want = Want { renewal_windows: vec![sundays], ..want() };
    let leaf = leaf(DAY * 90);
    let of_a_sunday = |due: &Due| due.at.duration_since(begin()).as_secs() % (7 * 86_400) < 1_800;
    let usual = due_with(&leaf, &suggested(58, 60), &want);
    assert!(of_a_sunday(&usual), "{usual:?}");
    for early in [suggested(5, 6), suggested(50, 52)] {
        assert_eq!(due_with(&leaf, &early, &want).at, early.selected());
    }
    let explained = Suggested { explanation_url: Some("u".into()), ..suggested(58, 60) };
    assert_eq!(due_with(&leaf, &explained, &want).at, explained.selected());
    // A certificate of six days cannot wait for a weekly window.
    let short = super::tests::leaf(HOUR * 160);
    let serving = ServingCertificate { leaf: &short, requested_at: begin(), suggested: None };
    let due = due(&serving, &want, &POLICY, begin());
    assert_eq!((due.at, due.why), (emergency_start(&short, begin()), Cause::LastResort));
}

#[test]
fn the_instant_of_a_missed_renewal_stays_while_a_window_is_open() {
    // It was missed in the week before; the CA or a quota delays it in this one.
    let sundays =
        super::renewal_window::RenewalWindow::new(&["Sun".into()], "12:00", HOUR * 6, None)
            .unwrap();
    let want = Want { renewal_windows: vec![sundays], ..want() };
    let leaf = leaf(DAY * 90);
    let serving =
        ServingCertificate { leaf: &leaf, requested_at: leaf.not_before, suggested: None };
    let opened = begin() + DAY * 70;
    let seen = |after: SignedDuration| due(&serving, &want, &POLICY, opened + after);
    let due = seen(-DAY);
    assert!(due.at >= opened && due.at <= opened + HOUR * 3 && due.why == Cause::Age, "{due:?}");
    for after in [SignedDuration::ZERO, SignedDuration::from_secs(1), HOUR, HOUR * 5] {
        assert_eq!(seen(after), due, "{after:?}");
    }
    // Then it waits for the next one, at its own time there.
    let next = seen(HOUR * 6);
    assert!(next.at >= opened + DAY * 7 && next.at <= opened + DAY * 7 + HOUR * 3, "{next:?}");
    assert_eq!(seen(DAY * 3), next);
}

#[test]
fn the_last_twentieth_of_the_lifetime_and_as_much_after_it_are_an_emergency() {
    let leaf = leaf(DAY * 100);
    for (day, wanted) in [(94, false), (96, true), (99, true), (101, true), (106, false)] {
        assert_eq!(is_emergency(&leaf, begin(), begin() + DAY * day), wanted, "day {day}");
    }
    // A CA that returns a nearly expired certificate does not cause one.
    let late = begin() + DAY * 99;
    assert!(!is_emergency(&leaf, late, late + HOUR));
}

#[test]
fn the_emergency_back_off_is_an_hour_or_the_time_from_the_ca() {
    let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
    for (interval, failures, wanted) in [
        (DAY, 4, at(3_600)),
        (DAY, 7, at(3_600)),
        (SignedDuration::from_mins(100), 3, at(3_600)),
        (SignedDuration::from_mins(10), 2, at(600)),
        // A user must change the request, or the CA named the time.
        (DAY, 0, at(86_400)),
        (SignedDuration::from_hours(2), 3, at(7_200)),
    ] {
        let backoff = Backoff { until: at(0) + interval, interval, failures };
        assert_eq!(cap_for_emergency(&backoff), wanted, "{interval:?} {failures}");
    }
}
