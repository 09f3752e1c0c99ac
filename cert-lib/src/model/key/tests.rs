//! Keys in the encodings that users have.

use super::*;

#[test]
fn a_key_round_trips_through_pem_and_is_not_printed() {
    for kind in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(kind).unwrap();
        let again = PrivateKey::from_pem(&key.pem()).unwrap();
        assert_eq!(again.kind(), Some(kind));
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(format!("{key:?}"), format!("PrivateKey({:?}, …)", key.algorithm()));
    }
}

#[test]
fn a_key_in_a_traditional_form_is_the_same_key() {
    let parameters = pem::encode(&pem::Pem::new("EC PARAMETERS", [6, 5, 43, 129, 4, 0, 34]));
    for (kind, before, tag) in [
        (KeyType::Rsa2048, "", "RSA PRIVATE KEY"),
        (KeyType::P256, "", "EC PRIVATE KEY"),
        (KeyType::P384, parameters.as_str(), "EC PRIVATE KEY"),
    ] {
        let key = PrivateKey::generate(kind).unwrap();
        let text = key.pem_in(Encoding::Pkcs1).unwrap();
        assert!(text.starts_with(&format!("-----BEGIN {tag}-----")), "{kind:?}");
        let text = format!("{before}{}", *text);
        assert_eq!(Encoding::of(text.as_bytes()), Some(Encoding::Pkcs1));
        let again = PrivateKey::from_pem(&text).unwrap();
        assert_eq!(again.kind(), Some(kind));
        assert_eq!(again.pkcs8(), key.pkcs8());
        let text = again.pem_in(Encoding::Pkcs8).unwrap();
        assert_eq!(text, key.pem());
        assert_eq!(Encoding::of(text.as_bytes()), Some(Encoding::Pkcs8));
    }
}

#[test]
fn a_text_of_begin_lines_is_no_key() {
    let text = "-----BEGIN PRIVATE KEY-----\n".repeat(100_000);
    assert!(matches!(PrivateKey::from_pem(&text), Err(KeyError::Unreadable(_))));
    assert_eq!(Encoding::of("-----BEGIN X-----\n".repeat(100_000).as_bytes()), None);
}

#[test]
fn garbage_is_no_key() {
    for text in ["", "garbage", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        assert!(matches!(PrivateKey::from_pem(text), Err(KeyError::Unreadable(_))), "{text}");
    }
}
