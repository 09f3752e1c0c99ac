use cert_lib::model::{key::PrivateKey, request::Fingerprint};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::{
    api::ObjectKey,
    certificates::{
        ownership::SecretOwnership,
        secret::{Body, Content, facts, options::PasswordKey, render},
    },
};

fn bundle() -> Bundle {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Bundle::from_pem(pem.as_bytes(), Some(key.serialize_pem().as_bytes())).unwrap()
}

/// The Secret as the API server returns it after our apply.
fn secret(bundle: &Bundle, options: &SecretOptions, encoding: Encoding) -> Secret {
    let body = Body::from_bundle(bundle, encoding).unwrap();
    let stores = stores(&options.stores, !body.ca.is_empty());
    let realm = crate::api::Realm::default();
    let content = Content {
        realm: &realm,
        body,
        fingerprint: &Fingerprint::stored("abc"),
        requested_at: Timestamp::UNIX_EPOCH,
        options,
        stores: stores.into_iter().map(|name| (name, ByteString(name.into()))).collect(),
        keystores_are_outdated: false,
        kind: None,
        ownership: &SecretOwnership::None,
    };
    let mut secret = render(&ObjectKey::new("ns", "tls"), &content);
    let data = secret.data.clone().unwrap();
    let fields: serde_json::Map<_, _> =
        data.keys().map(|name| (format!("f:{name}"), json!({}))).collect();
    secret.metadata.managed_fields = Some(vec![
        serde_json::from_value(json!({
            "manager": well_known::FIELD_MANAGER, "operation": "Apply", "fieldsV1": {"f:data": fields},
        }))
        .unwrap(),
    ]);
    secret
}

fn password() -> Option<PasswordKey> {
    Some(PasswordKey { secret: "password".to_owned(), key: "password".to_owned() })
}

/// One set of options for each kind of entry.
fn each() -> Vec<(&'static str, SecretOptions)> {
    let store = |stores: KeystoreOptions| SecretOptions { stores, ..SecretOptions::default() };
    vec![
        ("nothing", SecretOptions::default()),
        ("PKCS#1", SecretOptions { encoding: Some(Encoding::Pkcs1), ..SecretOptions::default() }),
        ("combined", SecretOptions { combined: true, ..SecretOptions::default() }),
        ("DER", SecretOptions { der: true, ..SecretOptions::default() }),
        (
            "annotation",
            SecretOptions {
                annotations: [("a".to_owned(), "b".to_owned())].into(),
                ..SecretOptions::default()
            },
        ),
        ("JKS", store(KeystoreOptions { jks: password(), ..KeystoreOptions::default() })),
        ("PKCS#12", store(KeystoreOptions { pkcs12: password(), ..KeystoreOptions::default() })),
        (
            "PKCS#12 for old programs",
            store(KeystoreOptions {
                pkcs12: password(),
                profile: Some(Profile::LegacyDes),
                ..KeystoreOptions::default()
            }),
        ),
    ]
}

fn is_current(secret: &Secret, options: &SecretOptions) -> bool {
    let layout = facts(secret).layout;
    layout.fits(options, true) && (options.stores.is_empty() || layout.has_stores(&options.stores))
}

#[test]
fn a_secret_is_current_only_for_the_options_it_was_written_with() {
    let bundle = bundle();
    for (written_for, has) in each() {
        let written = secret(&bundle, &has, has.encoding.unwrap_or_default());
        for (asked, options) in each() {
            let same = written_for == asked
                // Additional entries of others are kept.
                || (asked == "nothing" && ["PKCS#1", "annotation"].contains(&written_for))
                || (written_for.starts_with("PKCS#12") && asked == "PKCS#12");
            assert_eq!(
                is_current(&written, &options),
                same,
                "written for {written_for}, asked for {asked}"
            );
        }
    }
}

#[test]
fn only_our_entries_that_are_not_requested_are_unwanted() {
    let bundle = bundle();
    let options = SecretOptions { combined: true, der: true, ..SecretOptions::default() };
    let nothing = SecretOptions::default();
    let mut written = secret(&bundle, &options, Encoding::Pkcs8);
    let unwanted = |secret: &Secret, options| facts(secret).layout.unwanted_keys(options, true);
    assert_eq!(unwanted(&written, &options), Vec::<&str>::new());
    assert_eq!(unwanted(&written, &nothing), [COMBINED, DER]);
    let managed = written.metadata.managed_fields.as_mut().unwrap();
    managed[0].manager = Some("kubectl".to_owned());
    assert_eq!(unwanted(&written, &nothing), Vec::<&str>::new());
}

#[test]
fn entries_of_upstream_stay_until_another_layout_is_requested_explicitly() {
    let bundle = bundle();
    let [(_, nothing), .., (_, legacy)] = &each()[..] else { panic!() };
    let store = SecretOptions {
        stores: KeystoreOptions { profile: None, ..legacy.stores.clone() },
        ..SecretOptions::default()
    };
    for (options, asks) in [(nothing, true), (&store, true), (legacy, false)] {
        let mut written = secret(&bundle, options, Encoding::Pkcs1);
        written.metadata.managed_fields = None;
        written.metadata.annotations.as_mut().unwrap().remove(well_known::KEYSTORES);
        assert_eq!(is_current(&written, options), asks, "{options:?}");
    }
}

#[test]
fn keystores_of_another_certificate_are_not_current() {
    let (old, new) = (bundle(), bundle());
    let stores = KeystoreOptions { jks: password(), ..KeystoreOptions::default() };
    let options = SecretOptions { stores, ..SecretOptions::default() };
    let mut written = secret(&old, &options, Encoding::Pkcs8);
    assert!(is_current(&written, &options));
    // A keystore of another client is ignored.
    let data = written.data.as_mut().unwrap();
    data.insert(PKCS12.to_owned(), ByteString(b"theirs".to_vec()));
    assert!(is_current(&written, &options));
    let renewed = secret(&new, &SecretOptions::default(), Encoding::Pkcs8);
    written.data.as_mut().unwrap().extend(renewed.data.unwrap());
    assert!(!is_current(&written, &options));
}

#[test]
fn rewriting_a_secret_changes_only_the_requested_encoding() {
    let bundle = bundle();
    let written = secret(&bundle, &SecretOptions::default(), Encoding::Pkcs1);
    let with = |name: &str, text: &str| {
        let mut secret = written.clone();
        secret.data.as_mut().unwrap().insert(name.to_owned(), ByteString(text.into()));
        secret
    };
    let commented = String::from_utf8(entry(&written, "tls.crt").to_vec()).unwrap() + "\n\n# end\n";
    let written = with("tls.crt", &commented);
    let key = PrivateKey::from_pem(std::str::from_utf8(entry(&written, "tls.key")).unwrap());
    for (encoding, pem) in [
        (None, entry(&written, "tls.key").to_vec()),
        (Some(Encoding::Pkcs8), key.unwrap().pem().as_bytes().to_vec()),
    ] {
        let body = Body::from_secret(&written, &bundle, encoding).unwrap();
        assert_eq!((body.chain, body.key), (commented.clone().into_bytes(), pem));
        assert_eq!(body.ca, entry(&written, "ca.crt"));
    }
}
