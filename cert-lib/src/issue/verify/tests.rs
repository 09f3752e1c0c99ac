//! Certificates of every kind of issuer that are, and are not, what was asked for.

use std::sync::Arc;

use rcgen::{CertificateParams, DnType, SanType};

use super::*;
use crate::{
    clock::Manual,
    issue::{
        Advance, InlineKeyGenerator, Issuer,
        ca::{Authority, CaIssuer},
        self_signed::SelfSignedIssuer,
        x509::signing_request,
    },
    model::{
        key::{KeyType, PrivateKey},
        request::{Csr, Fingerprint, KeyChoice, OrderOptions, other_names},
    },
    solve::Owner,
};

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn days(days: i32) -> SignedDuration {
    SignedDuration::from_hours(24) * days
}

fn extras(common_name: Option<&str>, is_ca: bool) -> Extras {
    let common_name = common_name.map(str::to_owned);
    Extras { common_name, duration: days(90), is_ca, ..Extras::default() }
}

fn request(common_name: Option<&str>, names: &[&str], extras: Option<Extras>) -> Request {
    let subject = Subject::Names {
        common_name: common_name.and_then(|text| text.parse().ok()),
        dns_names: names.iter().map(|text| text.parse().unwrap()).collect(),
        key: KeyChoice::default(),
    };
    Request { extras, ..Request::new(Owner("default/x".into()), Fingerprint::stored("f"), subject) }
}

/// What a CA hands out whose certificates have these names.
fn bundle(
    common_name: &str,
    names: &[SanType],
    change: impl FnOnce(&mut CertificateParams),
) -> Bundle {
    let key = PrivateKey::generate(KeyType::P256).unwrap();
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2026, 11, 22);
    params.not_after = rcgen::date_time_ymd(2027, 2, 19);
    params.distinguished_name = rcgen::DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    params.subject_alt_names = names.to_vec();
    change(&mut params);
    let pem = params.self_signed(&key.signer().unwrap()).unwrap().pem();
    Bundle::from_pem(pem.as_bytes(), Some(key.pem().as_bytes())).unwrap()
}

fn dns(names: &[&str]) -> Vec<SanType> {
    names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())).collect()
}

fn result(bundle: &Bundle, request: &Request) -> String {
    verify(bundle, request, now()).map_or_else(|error| error.to_string(), |()| "fits".to_owned())
}

#[test]
fn names_count_only_as_alternative_names_for_every_issuer() {
    let name = Some("a.example.org");
    let acme = |names: &[&str]| request(name, names, None);
    let ca = |names: &[&str]| request(name, names, Some(extras(name, false)));
    let idn = "xn--bcher-kva.example";
    for (has, acme_says, ca_says) in [
        (dns(&["a.example.org", "*.b.example.org"]), "fits", "fits"),
        (dns(&["A.Example.Org", "*.b.example.org", "more.example"]), "fits", "fits"),
        (dns(&["a.example.org"]), "does not cover *.b.example.org", "does not cover *.b."),
        (dns(&["a.example.org", "b.example.org"]), "not cover *.b.example.org", "not cover *.b."),
        (dns(&["*.b.example.org"]), "does not cover a.example.org", "does not cover a.example.org"),
        (vec![], "does not cover a.example.org", "does not cover a.example.org"),
    ] {
        let given = bundle("a.example.org", &has, |_| {});
        for (request, wanted) in
            [(acme(&["*.b.example.org"]), acme_says), (ca(&["*.b.example.org"]), ca_says)]
        {
            let said = result(&given, &request);
            assert!(said.contains(wanted), "{has:?}: {said}");
        }
    }
    let given = bundle("", &dns(&[idn]), |_| {});
    assert_eq!(result(&given, &request(None, &[idn], None)), "fits");
    // The common name is also in the subject, where this program holds the key.
    let given = bundle("other", &dns(&["a.example.org"]), |_| {});
    assert_eq!(result(&given, &acme(&[])), "fits");
    assert!(result(&given, &ca(&[])).contains("not have the common name \"a.example.org\""));
}

#[test]
fn addresses_emails_and_uris_are_compared() {
    let emails = ["a@example.org".to_owned()];
    let addresses = ["10.0.0.1".to_owned(), "2001:db8::1".to_owned()];
    let uris = ["spiffe://example/x".to_owned()];
    let others = other_names(&emails, &addresses, &uris).unwrap();
    let asked = Extras { other_names: others, ..extras(None, false) };
    let has: Vec<SanType> = vec![
        SanType::Rfc822Name("a@example.org".try_into().unwrap()),
        SanType::IpAddress("10.0.0.1".parse().unwrap()),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
        SanType::URI("spiffe://example/x".try_into().unwrap()),
    ];
    let ours = request(None, &[], Some(asked));
    assert_eq!(result(&bundle("", &has, |_| {}), &ours), "fits");
    let wanted = ["a@example.org", "10.0.0.1", "2001:db8::1", "spiffe://example/x"];
    for (left_out, wanted) in wanted.into_iter().enumerate() {
        let rest = has.iter().enumerate().filter(|(at, _)| *at != left_out);
        let rest: Vec<SanType> = rest.map(|(_, name)| name.clone()).collect();
        let said = result(&bundle("", &rest, |_| {}), &ours);
        assert_eq!(said, format!("the certificate does not cover {wanted}"));
    }
    let acme =
        OrderOptions { addresses: vec!["10.0.0.1".parse().unwrap()], ..OrderOptions::default() };
    let acme = Request { acme, ..request(None, &[], None) };
    assert_eq!(result(&bundle("", &has, |_| {}), &acme), "fits");
    assert!(result(&bundle("", &[], |_| {}), &acme).contains("does not cover 10.0.0.1"));
}

#[test]
fn key_power_and_validity_are_compared() {
    let name = Some("a.example.org");
    let names = dns(&["a.example.org"]);
    let given = bundle("a.example.org", &names, |_| {});
    let other = bundle("a.example.org", &names, |_| {});
    let acme = request(name, &[], None);
    let ca = request(name, &[], Some(extras(name, false)));
    for request in [&acme, &ca] {
        let swapped = Bundle { key: other.key.clone(), ..given.clone() };
        assert_eq!(result(&swapped, request), "the certificate is for another key");
        let keyless = Bundle { key: None, ..given.clone() };
        assert_eq!(result(&keyless, request), "the certificate is for another key");
        let kept = Request { key: other.key.clone(), ..request.clone() };
        assert_eq!(result(&given, &kept), "the certificate is for another key");
    }
    let changed = |change: fn(&mut CertificateParams)| bundle("a.example.org", &names, change);
    let old = changed(|it| it.not_after = rcgen::date_time_ymd(2026, 11, 22));
    let late = changed(|it| it.not_before = rcgen::date_time_ymd(2026, 12, 1));
    let long = changed(|it| it.not_after = rcgen::date_time_ymd(2027, 2, 21));
    let endless = changed(|it| it.not_after = rcgen::date_time_ymd(4096, 1, 1));
    let signs = changed(|it| it.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    for (given, acme_says, ca_says) in [
        (&old, "has expired on 2026-11-22", "has expired"),
        (&late, "not valid before 2026-12-01", "not valid before"),
        (&long, "fits", "longer than was asked for"),
        (&endless, "which is no lifetime", "longer than was asked for"),
        (&signs, "fits", "is one of a CA, or is not"),
    ] {
        for (request, wanted) in [(&acme, acme_says), (&ca, ca_says)] {
            let said = result(given, request);
            assert!(said.contains(wanted), "{said}, not {wanted}");
        }
    }
}

#[tokio::test]
async fn what_our_own_issuers_give_is_what_was_asked_for() {
    let clock = Arc::new(Manual::at(now()));
    let own: Arc<dyn Issuer> =
        Arc::new(SelfSignedIssuer::new(clock.clone(), Arc::new(InlineKeyGenerator)));
    let root = Extras { duration: days(3650), ..extras(Some("a root"), true) };
    let root = issued(own.as_ref(), &request(Some("a root"), &[], Some(root))).await;
    let key = root.key.as_ref().unwrap().pem();
    let authority = Authority::from_pem(root.certificate_pem().as_bytes(), key.as_bytes(), now());
    let ca: Arc<dyn Issuer> =
        Arc::new(CaIssuer::new(authority.unwrap(), clock, Arc::new(InlineKeyGenerator)));

    let other_names = other_names(&[], &["10.0.0.1".into()], &[]).unwrap();
    let maker = PrivateKey::generate(KeyType::P384).unwrap();
    let named = request(Some("c.example.org"), &["*.c.example.org"], None);
    let der = signing_request(&named, Some(&maker)).unwrap();
    let pem = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    let csr = Subject::Csr(Csr::for_own_issuer(pem.as_bytes()).unwrap());
    let name = Some("a.example.org");
    for is_ca in [false, true] {
        let plain =
            request(name, &["*.example.org", "xn--bcher-kva.example"], Some(extras(name, is_ca)));
        let spoken = request(Some("a person"), &[], Some(extras(Some("a person"), is_ca)));
        let addressed =
            Extras { other_names: other_names.clone(), ..extras(Some("10.0.0.1"), is_ca) };
        let addressed = request(Some("10.0.0.1"), &[], Some(addressed));
        let mut by_csr = request(None, &[], Some(extras(None, is_ca)));
        by_csr.subject = csr.clone();
        let kept = Request { key: Some(maker.clone()), ..plain.clone() };
        for request in [plain, spoken, addressed, by_csr, kept] {
            for issuer in [&ca, &own] {
                assert_eq!(result(&issued(issuer.as_ref(), &request).await, &request), "fits");
            }
        }
    }
}

async fn issued(issuer: &dyn Issuer, request: &Request) -> Bundle {
    match issuer.advance(request, None).await.unwrap() {
        Advance::Issued(bundle) => bundle,
        Advance::Waiting { .. } => panic!("there is nothing to wait for"),
    }
}

#[test]
fn a_common_name_that_was_meant_as_dns_names_is_one_or_is_refused() {
    for (text, wanted) in [
        ("a.example.org", Ok(Some("a.example.org"))),
        ("*.Example.org.", Ok(Some("*.example.org"))),
        ("localhost", Ok(Some("localhost"))),
        ("system:kube-scheduler", Ok(None)),
        ("a person", Ok(None)),
        ("John Q. Public", Ok(None)),
        ("someone@example.org", Ok(None)),
        ("spiffe://example.org/x", Ok(None)),
        ("10.0.0.9", Ok(None)),
        ("10.0.0.1", Err("10.0.0.1 is an IP address, not a DNS name: list it in ipAddresses")),
        ("2001:db8::1", Err("list it in ipAddresses")),
        ("a.example\nb.example", Err("invalid domain: a.example\nb.example has a character")),
        ("a.example,b.example", Err("invalid domain")),
        ("a.example b.example", Err("invalid domain")),
        ("\"a.example\"", Err("invalid domain")),
        ("'a.example'", Err("invalid domain")),
        ("[a.example]", Err("invalid domain")),
        ("a\nb", Err("invalid domain")),
        ("bücher.example", Err("write international names as xn--")),
        ("f*.example.org", Err("a wildcard is allowed")),
        ("a..example.org", Err("label that is empty")),
    ] {
        let listed = other_names(&[], &["10.0.0.9".into()], &[]).unwrap();
        let leaf = Extras { other_names: listed, ..extras(None, false) };
        let said = own_common_name(text, &leaf).map_err(|error| error.to_string());
        match wanted {
            Ok(name) => assert_eq!(said, Ok(name.map(|name| name.parse().unwrap())), "{text:?}"),
            Err(why) => assert!(said.clone().unwrap_err().contains(why), "{text:?}: {said:?}"),
        }
        // A CA's is only what it is called.
        assert!(own_common_name(text, &extras(None, true)).is_ok(), "{text:?}");
    }
}
