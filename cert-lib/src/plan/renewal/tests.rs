use super::*;
use crate::plan::fixtures::{POLICY, want};

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

/// What is left of the life when it is renewed.
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
fn a_third_of_the_life_is_left_or_half_of_a_short_one_or_less_by_a_tenth() {
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

/// RFC 5280 section 4.1.2.5: no well-defined expiration date. And what nobody would write.
#[test]
fn no_date_is_too_far_away_to_be_renewed_before_it() {
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
fn what_the_certificate_asks_for_counts_to_the_second() {
    let rows: [(Option<SignedDuration>, Option<u8>, SignedDuration); 4] = [
        (Some(DAY * 40), None, DAY * 40),
        (None, Some(50), DAY * 45),
        (Some(DAY * 40), Some(50), DAY * 40),
        // A tenth of its life belongs to every certificate.
        (None, Some(99), DAY * 81),
    ];
    for (renew_before, renew_before_percentage, wanted) in rows {
        let want = Want { renew_before, renew_before_percentage, ..want() };
        let left = left(&leaf(DAY * 90), &want, &POLICY);
        assert!((left - wanted).abs() <= SignedDuration::from_secs(1), "{want:?}: {left:?}");
    }
}

#[test]
fn a_window_as_long_as_the_certificate_lives_is_not_meant() {
    let usual = left(&leaf(DAY * 45), &want(), &POLICY);
    for renew_before in [DAY * 45, DAY * 400, SignedDuration::MAX] {
        let want = Want { renew_before: Some(renew_before), ..want() };
        assert_eq!(left(&leaf(DAY * 45), &want, &POLICY), usual, "{renew_before:?}");
    }
}

#[test]
fn those_that_were_issued_together_are_not_renewed_together() {
    let mut hours = std::collections::BTreeMap::<i64, usize>::new();
    for number in 0..10_000 {
        let leaf = Leaf { serial: format!("{number:x}"), ..leaf(DAY * 90) };
        *hours.entry(left(&leaf, &want(), &POLICY).as_hours()).or_default() += 1;
    }
    let most = hours.values().max().unwrap();
    assert!(hours.len() >= 72 && *most < 250, "{} hours, {most} in one", hours.len());
}

#[test]
fn an_instant_of_the_cas_window_is_drawn_and_stays_until_the_window_changes() {
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
fn the_instants_are_uniform_in_the_window() {
    let mut quarters = [0; 4];
    for number in 0..4_000 {
        let suggested = about(&format!("a.{number}"), 0, 4);
        let day = suggested.selected().duration_since(begin()).as_hours() / 24;
        quarters[usize::try_from(day).unwrap()] += 1;
    }
    assert!(quarters.iter().all(|count| (850..1_150).contains(count)), "{quarters:?}");
}

#[test]
fn the_earlier_of_what_the_ca_and_the_certificate_ask_for_counts() {
    let leaf = leaf(DAY * 90);
    for (renew_before, why) in
        [(DAY * 60, Cause::Age), (DAY * 10, Cause::Ca(None)), (DAY * 400, Cause::Ca(None))]
    {
        let want = Want { renew_before: Some(renew_before), ..want() };
        assert_eq!(due_with(&leaf, &suggested(50, 52), &want).why, why, "{renew_before:?}");
    }
}

#[test]
fn a_window_that_cannot_be_meant_for_the_certificate_does_not_count() {
    let leaf = leaf(DAY * 90);
    let by_age = due_with(&leaf, &about("x.y", 1, 2), &want());
    assert_eq!(by_age.why, Cause::Age);
    for window in [suggested(52, 50), suggested(50, 50), suggested(50, 100), suggested(91, 92)] {
        assert_eq!(due_with(&leaf, &window, &want()), by_age, "{window:?}");
    }
    assert_eq!(due_with(&Leaf { id: None, ..leaf.clone() }, &suggested(1, 2), &want()), by_age);
}

#[test]
fn a_renewal_waits_for_its_weekly_window_unless_the_ca_is_in_a_hurry() {
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
    // A certificate of six days may not wait so long.
    let short = super::tests::leaf(HOUR * 160);
    let serving = ServingCertificate { leaf: &short, requested_at: begin(), suggested: None };
    let due = due(&serving, &want, &POLICY, begin());
    assert_eq!((due.at, due.why), (emergency_start(&short, begin()), Cause::LastResort));
}

#[test]
fn what_is_due_in_an_open_window_was_due_at_the_same_instant_all_the_time() {
    // It was missed in the week before; the CA or a quota holds it back in this one.
    let sundays =
        super::renewal_window::RenewalWindow::new(&["Sun".into()], "12:00", HOUR * 6, None)
            .unwrap();
    let want = Want { renewal_windows: vec![sundays], ..want() };
    let leaf = leaf(DAY * 90);
    let serving =
        ServingCertificate { leaf: &leaf, requested_at: leaf.not_before, suggested: None };
    let opened = begin() + DAY * 70;
    let seen = |after: SignedDuration| due(&serving, &want, &POLICY, opened + after);
    let told = seen(-DAY);
    assert!(
        told.at >= opened && told.at <= opened + HOUR * 3 && told.why == Cause::Age,
        "{told:?}"
    );
    for after in [SignedDuration::ZERO, SignedDuration::from_secs(1), HOUR, HOUR * 5] {
        assert_eq!(seen(after), told, "{after:?}");
    }
    // Then it waits for the next one, where it has a place of its own.
    let next = seen(HOUR * 6);
    assert!(next.at >= opened + DAY * 7 && next.at <= opened + DAY * 7 + HOUR * 3, "{next:?}");
    assert_eq!(seen(DAY * 3), next);
}

#[test]
fn the_last_twentieth_of_the_life_is_an_emergency_and_so_is_as_much_after_it() {
    let leaf = leaf(DAY * 100);
    for (day, wanted) in [(94, false), (96, true), (99, true), (101, true), (106, false)] {
        assert_eq!(is_emergency(&leaf, begin(), begin() + DAY * day), wanted, "day {day}");
    }
    // A CA that hands out a certificate of which almost nothing is left causes none.
    let late = begin() + DAY * 99;
    assert!(!is_emergency(&leaf, late, late + HOUR));
}

#[test]
fn in_an_emergency_we_wait_for_an_hour_but_as_long_as_the_ca_says() {
    let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
    for (interval, failures, wanted) in [
        (DAY, 4, at(3_600)),
        (DAY, 7, at(3_600)),
        (SignedDuration::from_mins(100), 3, at(3_600)),
        (SignedDuration::from_mins(10), 2, at(600)),
        // Somebody must change something, or the CA named the time.
        (DAY, 0, at(86_400)),
        (SignedDuration::from_hours(2), 3, at(7_200)),
    ] {
        let backoff = Backoff { until: at(0) + interval, interval, failures };
        assert_eq!(cap_for_emergency(&backoff), wanted, "{interval:?} {failures}");
    }
}
