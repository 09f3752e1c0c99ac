//! The table: what is there, and the step that follows.

use cert_lib::model::bundle::LeafDigest;

use super::*;
use crate::{
    api::{IssuerKey, revocation::RevokedSecrets},
    issuers::selection::Selection,
};

const DATE: &str = "2026-11-22T10:00:00Z";
const OLD: &str = "2026-11-22T09:00:00Z";
const NEW: &str = "2026-11-22T10:00:05Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn name(name: &str) -> CertificateName {
    CertificateName { name: name.to_owned(), namespace: "ns".to_owned() }
}

fn subject() -> Subject {
    Subject {
        hash: Some("hash".to_owned()),
        revoked: false,
        issuer: Selection {
            key: IssuerKey::Default("le".to_owned()),
            kind: Some(IssuerKind::Acme),
            refusal: None,
        },
    }
}

fn holder(certificate: &str, serial: &str, requested_at: &str) -> SecretHolder {
    let held = HeldCertificate {
        leaf: LeafDigest::of(serial.as_bytes()),
        serial: serial.to_owned(),
        requested_at: at(requested_at),
        revoked: false,
        is_own: true,
    };
    SecretHolder {
        name: name(certificate),
        secret: ObjectKey::new("ns", certificate),
        renewed_after: None,
        new_key_after: None,
        held: Some(held),
    }
}

fn backup(serial: &str, requested_at: &str) -> Backup {
    Backup {
        secret: ObjectKey::new("kube-system", format!("backup-{serial}")),
        leaf: LeafDigest::of(serial.as_bytes()),
        serial: serial.to_owned(),
        text: format!("0{serial}"),
        requested_at: at(requested_at),
        not_after: at("2027-02-20T09:00:00Z"),
        revoked: false,
        issuer: Some(IssuerKey::Default("le".to_owned())),
        is_marked: true,
        is_recorded: true,
    }
}

/// One Certificate with one certificate, and its backup.
fn found() -> Observed {
    Observed {
        subject: Some(subject()),
        holders: vec![holder("a", "a1", OLD)],
        backups: vec![backup("a1", OLD)],
        too_many: false,
    }
}

/// The same after the begin.
fn lists() -> Lists {
    Lists {
        processing: [name("a")].into(),
        secrets: [backup("a1", OLD).listed()].into(),
        ..Lists::default()
    }
}

fn first(found: &Observed) -> Step {
    next(found, None, false, at(DATE), false, at(NEW))
}

fn then(found: &Observed, lists: Lists, renew: bool) -> Step {
    next(found, Some(lists), renew, at(DATE), true, at(NEW))
}

fn refused(found: &Observed) -> String {
    match first(found) {
        Step::Refuse(why) => why,
        other => panic!("not refused: {other:?}"),
    }
}

fn spec() -> CertificateRevocationSpec {
    CertificateRevocationSpec {
        certificate_ref: name("a"),
        renew: None,
        qualifying_date: Some(DATE.to_owned()),
    }
}

#[test]
fn what_is_not_ours_or_finished_is_left_alone() {
    let finished = CertificateRevocationStatus {
        revocation_applied: Some(DATE.to_owned()),
        ..CertificateRevocationStatus::default()
    };
    assert_eq!(admit(false, "ns", &spec(), None, false), Admission::Leave);
    assert_eq!(admit(true, "ns", &spec(), Some(&finished), false), Admission::Leave);
    assert_eq!(admit(true, "ns", &spec(), None, false), Admission::Go(at(DATE)));
}

#[test]
fn a_missing_date_is_filled_in_and_an_impossible_one_refused() {
    let date = |text: Option<&str>| CertificateRevocationSpec {
        qualifying_date: text.map(str::to_owned),
        ..spec()
    };
    assert_eq!(admit(true, "ns", &date(None), None, false), Admission::Date);
    let split = date(Some("2026-11-22T10:00:00.5Z"));
    let whole = at("2026-11-22T10:00:01Z");
    assert_eq!(admit(true, "ns", &split, None, false), Admission::Go(whole));
    let admitted = admit(true, "ns", &date(Some("10000-01-01T00:00:00Z")), None, false);
    assert!(matches!(admitted, Admission::Refuse(why) if why.starts_with("qualifyingDate")));
}

#[test]
fn a_certificate_of_another_namespace_takes_the_flag() {
    let admitted = admit(true, "other", &spec(), None, false);
    assert!(matches!(admitted, Admission::Refuse(why) if why.contains("--allow-cross-namespace")));
    assert_eq!(admit(true, "other", &spec(), None, true), Admission::Go(at(DATE)));
}

#[test]
fn what_cannot_be_revoked_is_refused_in_upstreams_words() {
    let with = |subject: Subject| Observed { subject: Some(subject), ..found() };
    let chosen = |kind| Selection { kind, ..subject().issuer };
    for (found, why) in [
        (Observed { subject: None, ..found() }, "the Certificate does not exist"),
        (with(Subject { revoked: true, ..subject() }), "certficate already revoked"),
        (
            with(Subject { issuer: chosen(Some(IssuerKind::Ca)), ..subject() }),
            "certificate revocation only supported for issuers of type ACME",
        ),
        (
            with(Subject { hash: None, ..subject() }),
            "the Certificate has no label cert.gardener.cloud/hash: nothing was issued for it",
        ),
        (
            Observed { backups: vec![], holders: vec![holder("a", "a2", NEW)], ..found() },
            "find all old secrets failed: no valid secrets found older than 2026-11-22T10:00:00Z",
        ),
    ] {
        assert_eq!(refused(&found), why);
    }
    // An issuer that is away may come back.
    let away = with(Subject { issuer: chosen(None), ..subject() });
    assert!(matches!(first(&away), Step::Begin(..)));
}

#[test]
fn it_begins_with_all_that_is_old_and_valid() {
    let revoked = Backup { revoked: true, ..backup("b1", OLD) };
    let over = Backup { not_after: at(DATE), ..backup("c1", OLD) };
    let earlier = backup("d1", "2026-10-01T00:00:00Z");
    let newer = holder("newer", "e1", NEW);
    let found = Observed {
        holders: vec![holder("a", "a1", OLD), newer],
        backups: vec![backup("a1", OLD), revoked, over, earlier.clone(), backup("e1", NEW)],
        ..found()
    };
    let secrets = [backup("a1", OLD).listed(), earlier.listed()].into();
    let wanted = Lists { secrets, ..lists() };
    let message = "found 1 certificates to process".to_owned();
    assert_eq!(first(&found), Step::Begin(wanted.clone(), message));
    let renewing = next(&found, None, true, at(DATE), false, at(NEW));
    assert_eq!(renewing, Step::Begin(wanted, "renewing 1 certificates".to_owned()));
}

#[test]
fn certificates_with_one_hash_are_begun_together() {
    let found = Observed {
        holders: vec![holder("a", "a1", OLD), holder("b", "b1", OLD)],
        backups: vec![backup("a1", OLD), backup("b1", OLD)],
        ..found()
    };
    let Step::Begin(lists, _) = first(&found) else { panic!("not begun") };
    assert_eq!(lists.processing, [name("a"), name("b")].into());
    assert_eq!(lists.secrets.len(), 2);
}

#[test]
fn a_backup_without_a_note_is_secured_first_and_once() {
    let unmarked = Backup { is_marked: false, ..backup("a1", OLD) };
    let found = Observed { backups: vec![unmarked.clone()], ..found() };
    assert_eq!(first(&found), Step::Secure(vec![unmarked.secret]));
    assert!(matches!(next(&found, None, false, at(DATE), true, at(NEW)), Step::Begin(..)));
}

#[test]
fn without_a_backup_the_secret_itself_is_revoked_and_nothing_is_renewed() {
    let secret = ObjectKey::new("ns", "a");
    let itself = Backup { is_recorded: false, secret: secret.clone(), ..backup("a1", OLD) };
    let found = Observed { backups: vec![itself.clone()], ..found() };
    let Step::Begin(lists, _) = first(&found) else { panic!("not begun") };
    assert_eq!(lists.secrets, [itself.listed()].into());
    assert_eq!(then(&found, lists.clone(), false), Step::Revoke(lists, vec![itself]));
    let Step::Refuse(why) = next(&found, None, true, at(DATE), false, at(NEW)) else {
        panic!("it would be lost")
    };
    assert!(why.contains("Secret ns/a") && why.contains("without renew"), "{why}");
}

#[test]
fn what_only_looks_like_a_certificate_that_was_revoked_is_not_said_to_be() {
    let mut found = found();
    found.holders[0].held.as_mut().unwrap().leaf = LeafDigest::of(b"another with the same number");
    let Step::Revoke(mut lists, _) = then(&found, lists(), false) else { panic!("not revoked") };
    lists.revoked_secrets.append(&mut lists.secrets);
    let Step::Finish(lists) = then(&found, lists, false) else { panic!("not finished") };
    assert!(lists.revoked.is_empty(), "{lists:?}");
}

#[test]
fn more_certificates_than_one_revocation_is_for_are_refused() {
    let why = refused(&Observed { too_many: true, ..found() });
    assert!(why.starts_with("more than 100 Certificates have the same label"), "{why}");
}

#[test]
fn an_old_certificate_is_revoked_though_its_certificate_has_a_newer_one() {
    let found = Observed { holders: vec![holder("a", "a2", NEW)], ..found() };
    let Step::Begin(lists, _) = first(&found) else { panic!("not begun") };
    assert!(lists.processing.is_empty());
    assert!(matches!(then(&found, lists, false), Step::Revoke(..)));
}

#[test]
fn with_renew_all_are_told_once_and_waited_for() {
    let mut found = found();
    assert_eq!(then(&found, lists(), true), Step::Renew(lists(), vec![name("a")]));
    found.holders[0].renewed_after = Some(at(DATE));
    found.holders[0].new_key_after = Some(at(DATE));
    assert_eq!(then(&found, lists(), true), Step::Renew(lists(), vec![]));
    found.holders[0] = holder("a", "a2", NEW);
    let renewed = Lists { processing: [].into(), renewed: [name("a")].into(), ..lists() };
    assert_eq!(then(&found, lists(), true), Step::Revoke(renewed, vec![backup("a1", OLD)]));
}

#[test]
fn who_is_told_has_a_date_that_has_come_and_gives_up_its_key() {
    const NEXT_WEEK: &str = "2026-11-29T10:00:00Z";
    const LATER: &str = "2026-11-30T10:00:00Z";
    for (renewed_after, new_key_after, date, is_told) in [
        (None, None, DATE, false),
        (Some(DATE), None, DATE, false),
        (None, Some(DATE), DATE, false),
        (Some(DATE), Some(DATE), DATE, true),
        (Some(NEW), Some(DATE), DATE, true),
        (Some(DATE), Some(NEW), DATE, true),
        (Some(OLD), Some(DATE), DATE, false),
        (Some(DATE), Some(OLD), DATE, false),
        (Some(NEXT_WEEK), Some(DATE), DATE, false),
        (Some(NEXT_WEEK), Some(NEXT_WEEK), NEXT_WEEK, true),
        (Some(LATER), Some(NEXT_WEEK), NEXT_WEEK, false),
    ] {
        let holder = SecretHolder {
            renewed_after: renewed_after.map(at),
            new_key_after: new_key_after.map(at),
            ..holder("a", "a1", OLD)
        };
        let told = holder.is_told(at(date), at(NEW));
        assert_eq!(told, is_told, "{renewed_after:?} {new_key_after:?} {date}");
    }
}

/// faults.md 72: deleted in between.
#[test]
fn a_certificate_that_vanishes_is_not_waited_for() {
    let found = Observed { holders: vec![], ..found() };
    for renew in [true, false] {
        let Step::Revoke(mut lists, _) = then(&found, lists(), renew) else { panic!("it waits") };
        lists.revoked_secrets.append(&mut lists.secrets);
        let Step::Finish(lists) = then(&found, lists, renew) else { panic!("not finished") };
        assert_eq!(ending(&lists, renew, "").0, Ending::Applied);
    }
}

#[test]
fn what_was_revoked_before_a_crash_is_not_revoked_again() {
    let done = Backup { revoked: true, ..backup("a1", OLD) };
    let found = Observed { backups: vec![done], ..found() };
    let Step::Finish(lists) = then(&found, lists(), false) else { panic!("not finished") };
    assert_eq!(lists.revoked_secrets, [backup("a1", OLD).listed()].into());
    assert_eq!(lists.revoked, [name("a")].into());
    let (ending, message) = ending(&lists, false, "");
    assert_eq!((ending, message.as_str()), (Ending::Applied, "certificate(s) revoked"));
}

/// The status is written by people who are not trusted: what it names and is not theirs is not
/// among the backups that were found.
#[test]
fn a_backup_that_only_the_status_names_is_never_revoked() {
    let found = Observed { backups: vec![], ..found() };
    let Step::Finish(lists) = then(&found, lists(), false) else { panic!("not finished") };
    assert_eq!(lists.failed, [name("a")].into());
    assert_eq!(lists.failed_secrets.len(), 1);
    let (ending, message) = ending(&lists, false, "errors during revocation: x");
    assert_eq!(ending, Ending::Error);
    assert_eq!(message, "revocation of certificate failed: errors during revocation: x");
}

#[test]
fn what_is_done_in_part_is_said_in_upstreams_words() {
    let lists = Lists {
        revoked_secrets: [backup("a1", OLD).listed()].into(),
        failed_secrets: [backup("b1", OLD).listed()].into(),
        ..Lists::default()
    };
    let said = "certificate renewed and old certificate(s) revoked (ony partially successful)";
    assert_eq!(ending(&lists, true, ""), (Ending::PartialApplied, said.to_owned()));
}

#[test]
fn the_lists_are_those_of_the_status() {
    assert_eq!(Lists::of(None), None);
    assert_eq!(Lists::of(Some(&CertificateRevocationStatus::default())), None);
    let secrets = RevokedSecrets {
        processing: Some(vec![backup("a1", OLD).listed()]),
        ..RevokedSecrets::default()
    };
    let status = CertificateRevocationStatus {
        secrets: Some(secrets),
        ..CertificateRevocationStatus::default()
    };
    let begun = Lists { processing: [].into(), ..lists() };
    assert_eq!(Lists::of(Some(&status)), Some(begun));
}
