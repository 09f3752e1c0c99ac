use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::model::bundle::Leaf;

fn bundle() -> Bundle {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let der = params.self_signed(&key).unwrap().der().clone();
    let leaf = Leaf::from_der(&der).unwrap();
    let key = PrivateKey::from_pem(&key.serialize_pem()).unwrap();
    Bundle { chain: vec![der], key: Some(key), leaf, remark: None }
}

fn password(text: &str) -> Password {
    Password::new(text.as_bytes()).unwrap()
}

/// All formats of keystores and truststores of `content`.
fn all(content: &KeystoreContent<'_>, password: &Password) -> Vec<(&'static str, Vec<u8>)> {
    use pkcs12::Profile::{LegacyDes, Modern2023};
    vec![
        ("JKS", jks::keystore(content, password).unwrap()),
        ("JKS, trust", jks::truststore(content, password).unwrap()),
        ("Modern2023", pkcs12::keystore(content, password, Modern2023).unwrap()),
        ("Modern2023, trust", pkcs12::truststore(content, password, Modern2023).unwrap()),
        ("LegacyDES", pkcs12::keystore(content, password, LegacyDes).unwrap()),
        ("LegacyDES, trust", pkcs12::truststore(content, password, LegacyDes).unwrap()),
    ]
}

fn opens(what: &str, bytes: &[u8], password: &Password) -> bool {
    if what.starts_with("JKS") {
        jks::opens(bytes, password)
    } else {
        pkcs12::opens(bytes, password)
    }
}

#[test]
fn a_keystore_opens_with_its_password_and_no_other() {
    let bundle = bundle();
    let created = Timestamp::UNIX_EPOCH;
    let content = KeystoreContent { bundle: &bundle, ca: &bundle.chain, created };
    for text in ["changeit", "pässwörd €", &"x".repeat(255), "line\n"] {
        let right = password(text);
        for (what, bytes) in all(&content, &right) {
            assert!(opens(what, &bytes, &right), "{what} {text:?}");
            assert!(!opens(what, &bytes, &password(&format!("{text}."))), "{what} {text:?}");
            assert!(!opens(what, &bytes, &password("Changeit")), "{what} {text:?}");
        }
    }
}

#[test]
fn a_damaged_keystore_does_not_open() {
    let bundle = bundle();
    let created = Timestamp::UNIX_EPOCH;
    let content = KeystoreContent { bundle: &bundle, ca: &bundle.chain, created };
    let right = password("changeit");
    for (what, bytes) in all(&content, &right) {
        for at in (0..bytes.len()).step_by(97) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            if what.starts_with("JKS") {
                assert!(!opens(what, &damaged, &right), "{what} {at}");
            } else {
                opens(what, &damaged, &right);
            }
            assert!(!opens(what, &bytes[..at], &right), "{what} {at}");
        }
    }
}

#[test]
fn a_file_with_too_many_iterations_does_not_open() {
    // PFX with an empty content, whose MAC has 2^31 - 1 iterations.
    let file = [
        0x30, 0x49, 2, 1, 3, 0x30, 0x11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1, 0xa0,
        4, 4, 2, 0x30, 0, 0x30, 0x31, 0x30, 0x21, 0x30, 9, 6, 5, 0x2b, 14, 3, 2, 26, 5, 0, 4, 20,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 1, 2, 3, 4, 2, 4, 0x7f,
        0xff, 0xff, 0xff,
    ];
    assert!(!pkcs12::opens(&file, &password("changeit")));
}

#[test]
fn a_password_is_bounded_utf_8_and_is_not_printed() {
    let of = |bytes: &[u8]| Password::new(bytes).map(|it| format!("{it:?}"));
    assert_eq!(of(b"changeit"), Ok("Password(…)".to_owned()));
    assert_eq!(of(b""), Err(KeystoreError::NoPassword));
    assert_eq!(of(b"\xff"), Err(KeystoreError::NotText));
    assert_eq!(of("€".repeat(256).as_bytes()), Ok("Password(…)".to_owned()));
    assert_eq!(of("€".repeat(257).as_bytes()), Err(KeystoreError::TooLong));
    let for_pkcs12 = |text: &str| password(text).for_pkcs12().map(drop);
    assert_eq!((for_pkcs12("€"), for_pkcs12("🔑")), (Ok(()), Err(KeystoreError::BeyondBmp)));
}

#[test]
fn there_is_no_keystore_without_a_key_and_no_truststore_without_a_ca() {
    let bundle = Bundle { key: None, ..bundle() };
    let content = KeystoreContent { bundle: &bundle, ca: &[], created: Timestamp::UNIX_EPOCH };
    let (word, profile) = (password("changeit"), pkcs12::Profile::default());
    assert_eq!(jks::keystore(&content, &word), Err(KeystoreError::NoKey));
    assert_eq!(pkcs12::keystore(&content, &word, profile), Err(KeystoreError::NoKey));
    assert_eq!(jks::truststore(&content, &word), Err(KeystoreError::NoCa));
    assert_eq!(pkcs12::truststore(&content, &word, profile), Err(KeystoreError::NoCa));
}
