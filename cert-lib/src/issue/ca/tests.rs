//! What a CA and a self-signed issuer put into certificates.

use jiff::SignedDuration;
use rcgen::{CertificateParams, DnType, IsCa};

use super::*;
use crate::{
    clock::Manual,
    issue::{InlineKeyGenerator, self_signed::SelfSignedIssuer},
    model::{
        key::KeyType,
        name::DnsName,
        request::{Csr, Extras, Fingerprint, KeyChoice, OtherName, other_names},
    },
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Manual::at(now()))
}

/// A root with a name that a map would not keep, and its key.
fn root(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let key = PrivateKey::generate(KeyType::P384).unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2060, 1, 1);
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CountryName, "DE");
    params.distinguished_name.push(DnType::OrganizationName, "example");
    params.distinguished_name.push(DnType::CommonName, "a root");
    change(&mut params);
    let certificate = params.self_signed(&key.signer().unwrap()).unwrap();
    (certificate.pem(), key.pem().to_string())
}

fn authority() -> Authority {
    let (certificate, key) = root(|_| {});
    Authority::from_pem(certificate.as_bytes(), key.as_bytes(), now()).unwrap()
}

fn issuer(authority: Authority) -> CaIssuer {
    CaIssuer::new(authority, clock(), Arc::new(InlineKeyGenerator))
}

fn request(common_name: Option<&str>, dns_names: &[&str], extras: Extras) -> Request {
    let subject = Subject::Names {
        common_name: common_name.and_then(|text| text.parse().ok()),
        dns_names: dns_names.iter().map(|text| text.parse().unwrap()).collect(),
        key: KeyChoice::default(),
    };
    Request {
        extras: Some(Extras { common_name: common_name.map(str::to_owned), ..extras }),
        ..Request::new(Owner("default/x".into()), Fingerprint::stored("f"), subject)
    }
}

fn days(days: i32) -> Extras {
    Extras { duration: DAY * days, ..Extras::default() }
}

async fn issued(issuer: &dyn Issuer, request: &Request) -> Bundle {
    match issuer.advance(request, None).await.unwrap() {
        Advance::Issued(bundle) => bundle,
        Advance::Waiting { .. } => panic!("there is nothing to wait for"),
    }
}

async fn refused(issuer: &dyn Issuer, request: &Request) -> String {
    issuer.advance(request, None).await.unwrap_err().to_string()
}

fn verify(bundle: &Bundle) {
    let parsed: Vec<_> =
        bundle.chain.iter().map(|der| X509Certificate::from_der(der).unwrap().1).collect();
    for pair in parsed.windows(2) {
        pair[0].verify_signature(Some(pair[1].public_key())).unwrap();
        assert_eq!(pair[0].issuer().as_raw(), pair[1].subject().as_raw());
    }
}

#[tokio::test]
async fn a_certificate_of_a_ca_says_what_is_asked_for_and_chains() {
    let extras = Extras {
        other_names: other_names(
            &["a@example.org".into()],
            &["10.0.0.1".into(), "2001:db8::1".into()],
            &["spiffe://example/x".into()],
        )
        .unwrap(),
        ..days(180)
    };
    let request = request(Some("a.example.org"), &["*.b.example.org", "a.example.org"], extras);
    let bundle = issued(&issuer(authority()), &request).await;
    verify(&bundle);
    assert_eq!(bundle.chain.len(), 2);
    assert_eq!(bundle.issuers_pem().matches("BEGIN").count(), 1);
    assert_eq!(bundle.leaf.not_before, now());
    assert_eq!(bundle.leaf.not_after, now() + DAY * 180);
    assert_eq!(bundle.leaf.public_key, bundle.key.as_ref().unwrap().public_key());
    let (_, leaf) = X509Certificate::from_der(&bundle.chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "C=DE, O=example, CN=a.example.org");
    let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len();
    assert_eq!(names, 6);
    assert!(!leaf.is_ca());
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_encipherment() && !usage.key_cert_sign());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth);
    let again = issued(&issuer(authority()), &request).await;
    assert_ne!(again.leaf.serial, bundle.leaf.serial);
}

#[tokio::test]
async fn rsa_keys_and_long_validities_are_encoded_as_they_must_be() {
    let mut request = request(Some("a.example.org"), &[], days(9_000));
    request.subject = Subject::Names {
        common_name: None,
        dns_names: vec![],
        key: KeyChoice::Asked(KeyType::Rsa2048),
    };
    let bundle = issued(&issuer(authority()), &request).await;
    verify(&bundle);
    assert_eq!(bundle.leaf.not_after, now() + DAY * 9_000);
    let (_, leaf) = X509Certificate::from_der(&bundle.chain[0]).unwrap();
    assert!(leaf.key_usage().unwrap().unwrap().value.key_encipherment());
}

#[tokio::test]
async fn a_ca_of_a_ca_signs_without_the_root_in_the_chain() {
    let (root_pem, root_key) = root(|_| {});
    let authority = Authority::from_pem(root_pem.as_bytes(), root_key.as_bytes(), now()).unwrap();
    let extras = Extras { is_ca: true, ..days(900) };
    let ca = request(Some("an intermediate CA"), &[], extras);
    let between = issued(&issuer(authority), &ca).await;
    let (_, parsed) = X509Certificate::from_der(&between.chain[0]).unwrap();
    assert!(parsed.is_ca() && parsed.key_usage().unwrap().unwrap().value.key_cert_sign());
    assert!(between.leaf.names.is_empty());

    let key = between.key.as_ref().unwrap().pem();
    let authority =
        Authority::from_pem(between.certificate_pem().as_bytes(), key.as_bytes(), now()).unwrap();
    let bundle = issued(&issuer(authority), &request(Some("a.example.org"), &[], days(90))).await;
    assert_eq!(bundle.chain.len(), 2, "the leaf and the intermediate");
    verify(&bundle);
}

#[tokio::test]
async fn the_name_of_a_ca_is_repeated_byte_by_byte() {
    // Two DC parts, which the library that makes the root cannot do: made by our own writer.
    let dc = |text: &str| {
        let oid = [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25];
        let text = der_text(text);
        private_ca::attribute(&oid, &text)
    };
    let name = private_ca::subject(&[dc("com"), dc("example")].concat(), Some("a root"));
    let key = PrivateKey::generate(KeyType::Rsa2048).unwrap();
    let public_key = key.public_key();
    let template = CertificateTemplate {
        subject: name.clone(),
        names: vec![],
        other_names: &[],
        public_key,
        is_ca: true,
        not_before: now(),
        not_after: now() + DAY * 3650,
    };
    let signer = Signer { name: &name, key_id: None, key: &key };
    let root = private_ca::issue(&template, &signer, &[], None).unwrap();
    let authority =
        Authority::from_pem(root.certificate_pem().as_bytes(), key.pem().as_bytes(), now())
            .unwrap();
    let bundle = issued(&issuer(authority), &request(Some("a.example.org"), &[], days(9))).await;
    verify(&bundle);
    let (_, leaf) = X509Certificate::from_der(&bundle.chain[0]).unwrap();
    assert_eq!(leaf.issuer().to_string(), "DC=com, DC=example, CN=a root");
}

fn der_text(text: &str) -> x509_parser::asn1_rs::Any<'_> {
    x509_parser::asn1_rs::Any::from_tag_and_data(
        x509_parser::asn1_rs::Tag::Ia5String,
        text.as_bytes(),
    )
}

#[tokio::test]
async fn the_key_of_a_signing_request_is_the_one_that_is_certified() {
    let maker = PrivateKey::generate(KeyType::P256).unwrap();
    let mut params = CertificateParams::new(vec!["b.example.org".into()]).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "user");
    params.distinguished_name.push(DnType::CommonName, "not a name");
    params.subject_alt_names.push(rcgen::SanType::IpAddress("10.0.0.1".parse().unwrap()));
    let csr = params.serialize_request(&maker.signer().unwrap()).unwrap().pem().unwrap();
    let csr = Csr::for_own_issuer(csr.as_bytes()).unwrap();
    assert_eq!(csr.other_names, [OtherName::Address("10.0.0.1".parse().unwrap())]);
    let mut request = request(None, &[], days(90));
    request.subject = Subject::Csr(csr);
    let bundle = issued(&issuer(authority()), &request).await;
    assert!(bundle.key.is_none());
    assert_eq!(bundle.leaf.public_key, maker.public_key());
    assert_eq!(bundle.leaf.names, ["b.example.org".parse::<DnsName>().unwrap()].into());
    let (_, leaf) = X509Certificate::from_der(&bundle.chain[0]).unwrap();
    assert_eq!(leaf.subject().to_string(), "O=user, CN=not a name");

    let own = SelfSignedIssuer::new(clock(), Arc::new(InlineKeyGenerator));
    let bundle = issued(&own, &request).await;
    assert!(bundle.key.is_some(), "only its maker can sign with the key of the request");
}

#[tokio::test]
async fn a_ca_does_not_sign_what_outlives_it_or_is_above_it() {
    let (certificate, key) = root(|params| {
        params.not_after = rcgen::date_time_ymd(2027, 1, 1);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    });
    let authority = Authority::from_pem(certificate.as_bytes(), key.as_bytes(), now()).unwrap();
    let issuer = issuer(authority);
    let said = refused(&issuer, &request(Some("a.example.org"), &[], days(180))).await;
    assert!(said.contains("is longer than the lifetime of the CA certificate"), "{said}");
    let ca = request(Some("ca"), &[], Extras { is_ca: true, ..days(9) });
    let said = refused(&issuer, &ca).await;
    assert!(said.contains("may not sign other CAs"), "{said}");
    issued(&issuer, &request(Some("a.example.org"), &[], days(9))).await;
}

#[test]
fn what_is_no_ca_is_refused_in_upstreams_words() {
    let (good, key) = root(|_| {});
    let (_, other) = root(|_| {});
    let (leaf, leaf_key) = root(|params| params.is_ca = IsCa::NoCa);
    let (old, old_key) = root(|params| params.not_after = rcgen::date_time_ymd(2026, 11, 1));
    for (chain, key, wanted) in [
        ("", "", "extracting CA Keypair from secret failed: it holds no certificate"),
        (good.as_str(), "x", "extracting CA Keypair from secret failed"),
        (&good, &other, "private key does not match certificate"),
        (&leaf, &leaf_key, "certificate is not a CA"),
        (&old, &old_key, "certificate is expired"),
    ] {
        let error =
            Authority::from_pem(chain.as_bytes(), key.as_bytes(), now()).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}, not {wanted}");
    }
    let shown =
        format!("{:?}", Authority::from_pem(good.as_bytes(), key.as_bytes(), now()).unwrap());
    assert!(!shown.contains("key"), "{shown}");
}

#[tokio::test]
async fn a_ca_whose_key_usage_lacks_keycertsign_signs_with_a_warning() {
    use rcgen::KeyUsagePurpose::{DigitalSignature, KeyCertSign};
    for (usages, warns) in
        [(vec![], false), (vec![KeyCertSign], false), (vec![DigitalSignature], true)]
    {
        let (certificate, key) = root(|params| params.key_usages = usages.clone());
        let authority = Authority::from_pem(certificate.as_bytes(), key.as_bytes(), now()).unwrap();
        let warning = authority.warning();
        assert_eq!(warning.is_some_and(|it| it.contains("lacks keyCertSign")), warns, "{usages:?}");
        verify(&issued(&issuer(authority), &request(Some("a.example.org"), &[], days(9))).await);
    }
}

/// RFC 5280 section 4.1.2.5: no well-defined expiration date.
#[tokio::test]
async fn a_ca_without_an_end_signs() {
    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let template = CertificateTemplate {
        subject: private_ca::subject(&[], Some("for ever")),
        names: vec![],
        other_names: &[],
        public_key: key.public_key(),
        is_ca: true,
        not_before: now(),
        not_after: Timestamp::MAX,
    };
    let signer = Signer { name: &template.subject, key_id: None, key: &key };
    let root = private_ca::issue(&template, &signer, &[], None).unwrap();
    // Nothing checks the signature of a root.
    let mut der = root.chain[0].to_vec();
    let end = b"99991230220000Z";
    let at = der.windows(end.len()).position(|window| window == end).unwrap();
    der[at..at + end.len()].copy_from_slice(b"99991231235959Z");
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE", der));
    let authority = Authority::from_pem(pem.as_bytes(), key.pem().as_bytes(), now()).unwrap();
    assert_eq!(authority.not_after().to_string(), "9999-12-30T22:00:00Z");
    for length in [90, 3650 * 100, 3650 * 1000] {
        let wanted = request(Some("a.example.org"), &[], days(length));
        match issuer(Authority::from_pem(pem.as_bytes(), key.pem().as_bytes(), now()).unwrap())
            .advance(&wanted, None)
            .await
        {
            Ok(Advance::Issued(bundle)) => assert_eq!(bundle.leaf.not_after, now() + DAY * length),
            Ok(Advance::Waiting { .. }) => panic!("there is nothing to wait for"),
            Err(error) => {
                assert!(error.to_string().contains("is longer than the lifetime of"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_self_signed_certificate_is_a_ca_that_can_be_used_as_one() {
    let own = SelfSignedIssuer::new(clock(), Arc::new(InlineKeyGenerator));
    let extras = Extras { is_ca: true, ..days(90) };
    let request = request(Some("a CA of its own"), &["ca.example.org"], extras);
    let bundle = issued(&own, &request).await;
    assert_eq!(bundle.certificate_pem(), bundle.issuers_pem());
    let (_, parsed) = X509Certificate::from_der(&bundle.chain[0]).unwrap();
    parsed.verify_signature(None).unwrap();
    assert_eq!(parsed.subject().to_string(), "CN=a CA of its own");
    let key = bundle.key.as_ref().unwrap().pem();
    let authority =
        Authority::from_pem(bundle.certificate_pem().as_bytes(), key.as_bytes(), now()).unwrap();
    assert_eq!(authority.certificate(), bundle.chain[0].as_ref());
}

#[test]
fn names_that_cannot_be_certified_are_refused_in_upstreams_words() {
    let refused = |emails: &[&str], addresses: &[&str], uris: &[&str]| {
        let own = |texts: &[&str]| texts.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
        other_names(&own(emails), &own(addresses), &own(uris)).unwrap_err().to_string()
    };
    for (said, wanted) in [
        (refused(&["no-address"], &[], &[]), "invalid email address in 'spec.EmailAddresses'"),
        (refused(&["a b@c"], &[], &[]), "invalid email address"),
        (refused(&[], &["10.0.0"], &[]), "invalid IP address in 'spec.IPAddresses': 10.0.0"),
        (refused(&[], &[], &["no-scheme/path"]), "invalid URI in 'spec.URIs'"),
        (refused(&[], &[], &["http://bücher.example"]), "invalid URI"),
    ] {
        assert!(said.contains(wanted), "{said}, not {wanted}");
    }
}
