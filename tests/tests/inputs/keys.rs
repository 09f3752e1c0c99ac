//! PEM and DER of users → key pair, CA and bundle.

use std::time::Duration;

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cert_lib::{
    acme::jws::AccountKey,
    issue::ca::Authority,
    model::{
        bundle::{Bundle, Leaf, certificates},
        key::{Encoding, KeyType, PrivateKey},
        request::Csr,
    },
};
use jiff::Timestamp;
use proptest::{
    collection::vec,
    prelude::{Just, Strategy, any, prop_oneof},
    sample::{Index, select},
    test_runner::TestCaseError,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use crate::{Cost, check};

/// For a debug build on a busy machine; a release build needs a tenth.
const ALLOWED: Cost = Cost { time: Duration::from_secs(2), memory: 8 << 20 };

/// The two texts that are parsed.
type Pair = (Vec<u8>, Vec<u8>);

/// Valid keys, certificates and requests.
fn originals() -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ECDSA_P521_SHA512,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm)?;
        all.push(key.serialize_pem().into_bytes());
        all.push(certificate(&key)?);
        let csr = CertificateParams::new(vec!["a.example".to_owned()])?;
        all.push(csr.serialize_request(&key)?.pem()?.into_bytes());
    }
    for kind in [KeyType::P256, KeyType::Rsa2048] {
        let key = PrivateKey::generate(kind)?;
        all.push(key.pem_in(Encoding::Pkcs1)?.as_bytes().to_vec());
        all.push(certificate(&KeyPair::from_pem(&key.pem())?)?);
    }
    // The format of `openssl pkcs12 -nodes`, in Latin-1.
    let attributes =
        b"Bag Attributes\n    friendlyName: M\xfcller\nKey Attributes: <No Attributes>\n";
    all.push([attributes.as_slice(), &all[0], attributes, &all[1]].concat());
    all.push([all[0].as_slice(), &all[1]].concat());
    let encrypted = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
        DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA\n-----END RSA PRIVATE KEY-----";
    all.push(encrypted.as_bytes().to_vec());
    Ok(all)
}

fn certificate(key: &KeyPair) -> Result<Vec<u8>> {
    let mut params = CertificateParams::new(vec!["a.example".to_owned()])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params.self_signed(key)?.pem().into_bytes())
}

/// A change of a text.
#[derive(Clone, Debug)]
enum Change {
    /// A change inside of the block, so that it stays PEM.
    Inside(Index, u8),
    Byte(Index, u8),
    Cut(Index),
    Twice(Index, Index),
    Remove(Index, Index),
    Insert(Index, Vec<u8>),
}

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    let marks: Vec<&[u8]> =
        vec![b"-----BEGIN ", b"-----END ", b"-----", b"\r\n", b"\n\n", b"\xef\xbb\xbf", b"A:B\n"];
    let text = prop_oneof![
        vec(any::<u8>(), 0..40),
        select(marks).prop_map(<[u8]>::to_vec),
        (1_usize..4_000).prop_map(|times| b"-----BEGIN CERTIFICATE-----\n".repeat(times)),
    ];
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Inside(at, byte)),
        1 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => index().prop_map(Change::Cut),
        1 => (index(), index()).prop_map(|(from, to)| Change::Twice(from, to)),
        1 => (index(), index()).prop_map(|(from, to)| Change::Remove(from, to)),
        1 => (index(), text).prop_map(|(at, text)| Change::Insert(at, text)),
    ]
}

fn changed(mut text: Vec<u8>, change: &Change) -> Vec<u8> {
    if text.is_empty() {
        return text;
    }
    let range = |from: &Index, to: &Index, text: &[u8]| {
        let (from, to) = (from.index(text.len()), to.index(text.len()));
        from.min(to)..from.max(to)
    };
    match change {
        Change::Inside(at, byte) => {
            text = inside(&text, |der| {
                let at = at.index(der.len());
                der[at] ^= byte;
            })
            .unwrap_or(text);
        }
        Change::Byte(at, byte) => {
            let at = at.index(text.len());
            text[at] = *byte;
        }
        Change::Cut(at) => text.truncate(at.index(text.len())),
        Change::Twice(from, to) => {
            let part = text[range(from, to, &text)].to_vec();
            text.extend(part);
        }
        Change::Remove(from, to) => {
            text.drain(range(from, to, &text));
        }
        Change::Insert(at, more) => {
            let at = at.index(text.len());
            text.splice(at..at, more.iter().copied());
        }
    }
    text
}

/// Changes the content of the first block, which stays PEM.
fn inside(text: &[u8], change: impl FnOnce(&mut [u8])) -> Option<Vec<u8>> {
    let find = |from: usize, mark: &[u8]| {
        let at = text.get(from..)?.windows(mark.len()).position(|it| it == mark)?;
        Some(from + at)
    };
    let begin = find(0, b"-----BEGIN ")?;
    let start = find(begin + 11, b"-----")? + 5;
    let end = find(start, b"-----END ")?;
    let base64: Vec<u8> =
        text[start..end].iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let mut der = BASE64_STANDARD.decode(base64).ok().filter(|der| !der.is_empty())?;
    change(&mut der);
    let base64 = format!("\n{}\n", BASE64_STANDARD.encode(der));
    Some([&text[..start], base64.as_bytes(), &text[end..]].concat())
}

/// Whether a message quotes the input: sixteen bytes of base64 would be a part of a key.
fn quotes(said: &str, input: &[u8]) -> bool {
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut windows = input.windows(16).filter(|window| window.iter().all(is_base64));
    windows.any(|window| said.as_bytes().windows(16).any(|it| it == window))
}

fn texts(originals: Vec<Vec<u8>>) -> impl Strategy<Value = Pair> {
    let one = move || {
        let mutated = (select(originals.clone()), vec(change(), 0..4))
            .prop_map(|(text, changes)| changes.iter().fold(text, changed));
        prop_oneof![8 => mutated, 1 => vec(any::<u8>(), 0..2_000), 1 => Just(Vec::new())]
    };
    (one(), one())
}

#[test]
fn keys_certificates_and_requests_are_parsed_or_refused_in_time() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    let check_message = |error: Option<String>, input: &[u8]| match error {
        Some(text) if text.len() > 400 || quotes(&text, input) => {
            Err(TestCaseError::fail(format!("it says too much: {text}")))
        }
        Some(_) | None => Ok(()),
    };
    check("keys", &texts(originals().unwrap()), ALLOWED, |(first, second)| {
        for text in [&first, &second] {
            if let Ok(key) = PrivateKey::from_pem(text) {
                let again = PrivateKey::from_pem(key.pem().as_bytes());
                if again.map(|again| again.pkcs8() == key.pkcs8()) != Ok(true) {
                    return Err(TestCaseError::fail("a key is another one when it was written"));
                }
            }
            check_message(PrivateKey::from_pem(text).err().map(|it| it.to_string()), text)?;
            check_message(AccountKey::from_pem(text).err().map(|it| it.to_string()), text)?;
            let _ = (Encoding::of(text), Csr::from_pem(text), Csr::for_own_issuer(text));
            for der in certificates(text).unwrap_or_default() {
                let _ = Leaf::from_der(&der);
            }
        }
        check_message(
            Bundle::from_pem(&first, Some(&second)).err().map(|it| it.to_string()),
            &second,
        )?;
        match Authority::from_pem(&first, &second, now) {
            Ok(authority) if authority.not_after() <= now => {
                Err(TestCaseError::fail("it takes a CA that has ended"))
            }
            Ok(_) => Ok(()),
            Err(error) => check_message(Some(error.to_string()), &second),
        }
    });
}
