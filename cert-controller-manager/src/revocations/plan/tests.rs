//! Tests of the plan: observed state and next step.

use cert_lib::model::bundle::LeafDigest;

use super::*;
use crate::{
    api::{IssuerKey, issuer::IssuerKind, revocation::RevokedSecrets},
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

/// One Certificate with one certificate and its backup.
fn observed() -> Observed {
    Observed {
        subject: Some(subject()),
        holders: vec![holder("a", "a1", OLD)],
        backups: vec![backup("a1", OLD)],
        too_many: false,
    }
}

/// The lists after the revocation has begun.
fn lists() -> Lists {
    Lists {
        processing: [name("a")].into(),
        secrets: [backup("a1", OLD).listed()].into(),
        ..Lists::default()
    }
}

fn first(observed: &Observed) -> Step {
    next(observed, None, false, at(DATE), false, at(NEW))
}

fn then(observed: &Observed, lists: Lists, renew: bool) -> Step {
    next(observed, Some(lists), renew, at(DATE), true, at(NEW))
}

fn refused(observed: &Observed) -> String {
    match first(observed) {
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
fn a_revocation_that_is_not_served_or_finished_is_ignored() {
    let finished = CertificateRevocationStatus {
        revocation_applied: Some(DATE.to_owned()),
        ..CertificateRevocationStatus::default()
    };
    assert_eq!(admit(false, "ns", &spec(), None, false), Admission::Ignore);
    assert_eq!(admit(true, "ns", &spec(), Some(&finished), false), Admission::Ignore);
    assert_eq!(admit(true, "ns", &spec(), None, false), Admission::Proceed(at(DATE)));
}

#[test]
fn a_missing_date_is_set_and_an_invalid_one_is_refused() {
    let date = |text: Option<&str>| CertificateRevocationSpec {
        qualifying_date: text.map(str::to_owned),
        ..spec()
    };
    assert_eq!(admit(true, "ns", &date(None), None, false), Admission::SetDate);
    let split = date(Some("2026-11-22T10:00:00.5Z"));
    let whole = at("2026-11-22T10:00:01Z");
    assert_eq!(admit(true, "ns", &split, None, false), Admission::Proceed(whole));
    let admitted = admit(true, "ns", &date(Some("10000-01-01T00:00:00Z")), None, false);
    assert!(matches!(admitted, Admission::Refuse(why) if why.starts_with("qualifyingDate")));
}

#[test]
fn a_certificate_of_another_namespace_needs_the_flag() {
    let admitted = admit(true, "other", &spec(), None, false);
    assert!(matches!(admitted, Admission::Refuse(why) if why.contains("--allow-cross-namespace")));
    assert_eq!(admit(true, "other", &spec(), None, true), Admission::Proceed(at(DATE)));
}

#[test]
fn a_certificate_that_cannot_be_revoked_is_refused_with_upstreams_message() {
    let with = |subject: Subject| Observed { subject: Some(subject), ..observed() };
    let selection = |kind| Selection { kind, ..subject().issuer };
    for (observed, why) in [
        (Observed { subject: None, ..observed() }, "the Certificate does not exist"),
        (with(Subject { revoked: true, ..subject() }), "certficate already revoked"),
        (
            with(Subject { issuer: selection(Some(IssuerKind::Ca)), ..subject() }),
            "certificate revocation only supported for issuers of type ACME",
        ),
        (
            with(Subject { hash: None, ..subject() }),
            "the Certificate has no label cert.gardener.cloud/hash: nothing was issued for it",
        ),
        (
            Observed { backups: vec![], holders: vec![holder("a", "a2", NEW)], ..observed() },
            "find all old secrets failed: no valid secrets found older than 2026-11-22T10:00:00Z",
        ),
    ] {
        assert_eq!(refused(&observed), why);
    }
    // An unknown issuer may appear later.
    let away = with(Subject { issuer: selection(None), ..subject() });
    assert!(matches!(first(&away), Step::Begin(..)));
}

#[test]
fn a_revocation_begins_with_all_old_and_valid_certificates() {
    let revoked = Backup { revoked: true, ..backup("b1", OLD) };
    let over = Backup { not_after: at(DATE), ..backup("c1", OLD) };
    let earlier = backup("d1", "2026-10-01T00:00:00Z");
    let newer = holder("newer", "e1", NEW);
    let observed = Observed {
        holders: vec![holder("a", "a1", OLD), newer],
        backups: vec![backup("a1", OLD), revoked, over, earlier.clone(), backup("e1", NEW)],
        ..observed()
    };
    let secrets = [backup("a1", OLD).listed(), earlier.listed()].into();
    let wanted = Lists { secrets, ..lists() };
    let message = "found 1 certificates to process".to_owned();
    assert_eq!(first(&observed), Step::Begin(wanted.clone(), message));
    let renewing = next(&observed, None, true, at(DATE), false, at(NEW));
    assert_eq!(renewing, Step::Begin(wanted, "renewing 1 certificates".to_owned()));
}

#[test]
fn certificates_with_the_same_hash_are_revoked_together() {
    let observed = Observed {
        holders: vec![holder("a", "a1", OLD), holder("b", "b1", OLD)],
        backups: vec![backup("a1", OLD), backup("b1", OLD)],
        ..observed()
    };
    let Step::Begin(lists, _) = first(&observed) else { panic!("not begun") };
    assert_eq!(lists.processing, [name("a"), name("b")].into());
    assert_eq!(lists.secrets.len(), 2);
}

#[test]
fn a_backup_without_an_owner_is_annotated_first_and_once() {
    let unmarked = Backup { is_marked: false, ..backup("a1", OLD) };
    let observed = Observed { backups: vec![unmarked.clone()], ..observed() };
    assert_eq!(first(&observed), Step::Annotate(vec![unmarked.secret]));
    assert!(matches!(next(&observed, None, false, at(DATE), true, at(NEW)), Step::Begin(..)));
}

#[test]
fn without_a_backup_the_certificate_of_the_secret_is_revoked_and_renewal_is_refused() {
    let secret = ObjectKey::new("ns", "a");
    let itself = Backup { is_recorded: false, secret: secret.clone(), ..backup("a1", OLD) };
    let observed = Observed { backups: vec![itself.clone()], ..observed() };
    let Step::Begin(lists, _) = first(&observed) else { panic!("not begun") };
    assert_eq!(lists.secrets, [itself.listed()].into());
    assert_eq!(then(&observed, lists.clone(), false), Step::Revoke(lists, vec![itself]));
    let Step::Refuse(why) = next(&observed, None, true, at(DATE), false, at(NEW)) else {
        panic!("it would be lost")
    };
    assert!(why.contains("Secret ns/a") && why.contains("without renew"), "{why}");
}

#[test]
fn a_certificate_with_the_serial_number_of_a_revoked_one_is_not_listed_as_revoked() {
    let mut observed = observed();
    observed.holders[0].held.as_mut().unwrap().leaf =
        LeafDigest::of(b"another with the same number");
    let Step::Revoke(mut lists, _) = then(&observed, lists(), false) else { panic!("not revoked") };
    lists.revoked_secrets.append(&mut lists.secrets);
    let Step::Finish(lists) = then(&observed, lists, false) else { panic!("not finished") };
    assert!(lists.revoked.is_empty(), "{lists:?}");
}

#[test]
fn too_many_certificates_are_refused() {
    let why = refused(&Observed { too_many: true, ..observed() });
    assert!(why.starts_with("more than 100 Certificates have the same label"), "{why}");
}

#[test]
fn an_old_certificate_is_revoked_after_its_secret_was_renewed() {
    let observed = Observed { holders: vec![holder("a", "a2", NEW)], ..observed() };
    let Step::Begin(lists, _) = first(&observed) else { panic!("not begun") };
    assert!(lists.processing.is_empty());
    assert!(matches!(then(&observed, lists, false), Step::Revoke(..)));
}

#[test]
fn with_renew_all_renewals_are_requested_once_and_awaited() {
    let mut observed = observed();
    assert_eq!(then(&observed, lists(), true), Step::Renew(lists(), vec![name("a")]));
    observed.holders[0].renewed_after = Some(at(DATE));
    observed.holders[0].new_key_after = Some(at(DATE));
    assert_eq!(then(&observed, lists(), true), Step::Renew(lists(), vec![]));
    observed.holders[0] = holder("a", "a2", NEW);
    let renewed = Lists { processing: [].into(), renewed: [name("a")].into(), ..lists() };
    assert_eq!(then(&observed, lists(), true), Step::Revoke(renewed, vec![backup("a1", OLD)]));
}

#[test]
fn a_renewal_is_requested_by_a_date_in_the_past_and_a_new_key() {
    const NEXT_WEEK: &str = "2026-11-29T10:00:00Z";
    const LATER: &str = "2026-11-30T10:00:00Z";
    for (renewed_after, new_key_after, date, expected) in [
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
        let requested = holder.is_renewal_requested(at(date), at(NEW));
        assert_eq!(requested, expected, "{renewed_after:?} {new_key_after:?} {date}");
    }
}

/// faults.md 72: deleted during the revocation.
#[test]
fn a_deleted_certificate_is_not_awaited() {
    let observed = Observed { holders: vec![], ..observed() };
    for renew in [true, false] {
        let Step::Revoke(mut lists, _) = then(&observed, lists(), renew) else {
            panic!("it waits")
        };
        lists.revoked_secrets.append(&mut lists.secrets);
        let Step::Finish(lists) = then(&observed, lists, renew) else { panic!("not finished") };
        assert_eq!(ending(&lists, renew, "").0, Ending::Applied);
    }
}

#[test]
fn a_certificate_revoked_before_a_crash_is_not_revoked_again() {
    let done = Backup { revoked: true, ..backup("a1", OLD) };
    let observed = Observed { backups: vec![done], ..observed() };
    let Step::Finish(lists) = then(&observed, lists(), false) else { panic!("not finished") };
    assert_eq!(lists.revoked_secrets, [backup("a1", OLD).listed()].into());
    assert_eq!(lists.revoked, [name("a")].into());
    let (ending, message) = ending(&lists, false, "");
    assert_eq!((ending, message.as_str()), (Ending::Applied, "certificate(s) revoked"));
}

/// Tenants can write the status. A backup that only the status names is not among the observed
/// ones.
#[test]
fn a_backup_that_only_the_status_names_is_never_revoked() {
    let observed = Observed { backups: vec![], ..observed() };
    let Step::Finish(lists) = then(&observed, lists(), false) else { panic!("not finished") };
    assert_eq!(lists.failed, [name("a")].into());
    assert_eq!(lists.failed_secrets.len(), 1);
    let (ending, message) = ending(&lists, false, "errors during revocation: x");
    assert_eq!(ending, Ending::Error);
    assert_eq!(message, "revocation of certificate failed: errors during revocation: x");
}

#[test]
fn a_partial_revocation_has_upstreams_message() {
    let lists = Lists {
        revoked_secrets: [backup("a1", OLD).listed()].into(),
        failed_secrets: [backup("b1", OLD).listed()].into(),
        ..Lists::default()
    };
    let message = "certificate renewed and old certificate(s) revoked (ony partially successful)";
    assert_eq!(ending(&lists, true, ""), (Ending::PartialApplied, message.to_owned()));
}

#[test]
fn the_lists_are_read_from_the_status() {
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
