//! Issuers whose CA key we hold, verified with OpenSSL. Without a cluster.

mod keys;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use cert_lib::{
    clock::{Clock as _, System},
    issue::{
        Advance, InlineKeyGenerator, Issuer,
        ca::{Authority, CaIssuer},
        self_signed::SelfSignedIssuer,
    },
    model::{
        bundle::Bundle,
        key::KeyType,
        request::{Csr, Extras, Fingerprint, KeyChoice, Request, Subject, other_names},
    },
    solve::Owner,
};
use jiff::SignedDuration;
use tests::{
    processes::{output, scratch},
    run,
};

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn openssl(arguments: &[&str], directory: &Path) -> Result<String> {
    let mut command = Command::new("openssl");
    let output = output(command.args(arguments).current_dir(directory).stderr(Stdio::piped()))?;
    let message = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    ensure!(
        output.status.success(),
        "openssl {arguments:?}: {}{}",
        message(&output.stdout),
        message(&output.stderr)
    );
    Ok(message(&output.stdout))
}

fn request(common_name: &str, dns_names: &[&str], key: KeyType, extras: Extras) -> Request {
    let subject = Subject::Names {
        common_name: common_name.parse().ok(),
        dns_names: dns_names.iter().filter_map(|name| name.parse().ok()).collect(),
        key: KeyChoice::Asked(key),
    };
    let extras = Extras { common_name: Some(common_name.to_owned()), ..extras };
    Request {
        extras: Some(extras),
        ..Request::new(Owner("default/x".to_owned()), Fingerprint::stored("f"), subject)
    }
}

fn days(days: i32, is_ca: bool) -> Extras {
    Extras { duration: DAY * days, is_ca, ..Extras::default() }
}

async fn issue(issuer: &dyn Issuer, request: &Request) -> Result<Bundle> {
    match issuer.advance(request, None).await? {
        Advance::Issued(bundle) => Ok(bundle),
        Advance::Waiting { .. } => anyhow::bail!("there is nothing to wait for"),
    }
}

/// An issuer with the certificate and key of `bundle`.
fn ca(bundle: &Bundle) -> Result<CaIssuer> {
    let key = bundle.key.as_ref().context("it has no key")?.pem();
    let authority =
        Authority::from_pem(bundle.certificate_pem().as_bytes(), key.as_bytes(), System.now())?;
    Ok(CaIssuer::new(authority, Arc::new(System), Arc::new(InlineKeyGenerator)))
}

fn self_signed() -> SelfSignedIssuer {
    SelfSignedIssuer::new(Arc::new(System), Arc::new(InlineKeyGenerator))
}

/// Writes all certificates to `<name>.crt`, and the first to `<name>.first`.
fn save(directory: &Path, name: &str, bundle: &Bundle) -> Result<PathBuf> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let pem = bundle.certificate_pem();
    let first = pem.find(END).map_or(pem.len(), |at| at + END.len());
    fs::write(directory.join(format!("{name}.first")), &pem[..first])?;
    let file = directory.join(format!("{name}.crt"));
    fs::write(&file, pem)?;
    Ok(file)
}

fn text(directory: &Path, name: &str) -> Result<String> {
    openssl(&["x509", "-in", &format!("{name}.first"), "-noout", "-text"], directory)
}

#[test]
fn a_chain_of_cas_is_verified_down_to_the_leaf_for_every_kind_of_key() {
    run(async {
        for key in [KeyType::P256, KeyType::P384, KeyType::Rsa2048] {
            let directory = scratch()?;
            let root =
                issue(&self_signed(), &request("a root", &[], key, days(3650, true))).await?;
            let middle =
                issue(&ca(&root)?, &request("in the middle", &[], key, days(900, true))).await?;
            let below = issue(&ca(&middle)?, &request("below", &[], key, days(800, true))).await?;
            let names = ["leaf.example.test", "*.example.test"];
            let leaf =
                issue(&ca(&below)?, &request(names[0], &names, key, days(90, false))).await?;
            for (name, bundle) in
                [("root", &root), ("middle", &middle), ("below", &below), ("leaf", &leaf)]
            {
                save(&directory, name, bundle)?;
            }
            // The leaf, both intermediates, and no root.
            assert_eq!(leaf.chain.len(), 3, "{key:?}");
            for purpose in ["sslserver", "sslclient"] {
                let mut arguments = vec!["verify", "-x509_strict", "-purpose", purpose];
                arguments.extend(["-CAfile", "root.first", "-untrusted", "leaf.crt"]);
                arguments.extend(["-verify_hostname", "any.example.test", "leaf.first"]);
                openssl(&arguments, &directory)?;
            }
            // The leaf may not sign.
            let key = leaf.key.as_ref().context("no key")?.pem();
            let error = Authority::from_pem(
                leaf.certificate_pem().as_bytes(),
                key.as_bytes(),
                System.now(),
            );
            assert_eq!(error.unwrap_err().to_string(), "certificate is not a CA");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn names_usages_and_serials_match_the_request() {
    run(async {
        let directory = scratch()?;
        let root =
            issue(&self_signed(), &request("a root", &[], KeyType::P256, days(3650, true))).await?;
        save(&directory, "root", &root)?;
        let own = |text: &str| vec![text.to_owned()];
        let extras = Extras {
            other_names: other_names(
                &own("someone@example.test"),
                &[own("192.0.2.1"), own("2001:db8::1")].concat(),
                &own("spiffe://example.test/web"),
            )?,
            ..days(30, false)
        };
        let request = request("leaf.example.test", &["b.example.test"], KeyType::Rsa2048, extras);
        let issuer = ca(&root)?;
        let leaf = issue(&issuer, &request).await?;
        save(&directory, "leaf", &leaf)?;
        let shown = text(&directory, "leaf")?;
        for part in [
            "DNS:leaf.example.test, DNS:b.example.test, email:someone@example.test, \
             IP Address:192.0.2.1, IP Address:2001:DB8:0:0:0:0:0:1, URI:spiffe://example.test/web",
            "Digital Signature, Key Encipherment\n",
            "TLS Web Client Authentication, TLS Web Server Authentication",
            "CA:FALSE",
            "Authority Key Identifier",
        ] {
            assert!(shown.contains(part), "no {part} in {shown}");
        }
        for check in ["-verify_ip=2001:db8::1", "-verify_email=someone@example.test"] {
            let (flag, value) = check.split_once('=').context("no value")?;
            openssl(&["verify", "-CAfile", "root.first", flag, value, "leaf.first"], &directory)?;
        }
        let shown = text(&directory, "root")?;
        assert!(shown.contains("Certificate Sign") && shown.contains("CA:TRUE"), "{shown}");

        let mut serials = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let serial = issue(&issuer, &request).await?.leaf.serial;
            // 16 bytes, and positive.
            assert!(serial.len() == 32 && ('4'..='7').contains(&char::from(serial.as_bytes()[0])));
            serials.insert(serial);
        }
        assert_eq!(serials.len(), 20);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_signing_request_keeps_its_key_and_cannot_request_a_ca() {
    run(async {
        let directory = scratch()?;
        let root =
            issue(&self_signed(), &request("a root", &[], KeyType::P384, days(3650, true))).await?;
        save(&directory, "root", &root)?;
        for algorithm in ["EC", "RSA"] {
            let option = match algorithm {
                "EC" => "ec_paramgen_curve:P-256",
                _ => "rsa_keygen_bits:2048",
            };
            let key = ["genpkey", "-algorithm", algorithm, "-pkeyopt", option, "-out", "maker.key"];
            openssl(&key, &directory)?;
            let mut arguments = vec!["req", "-new", "-key", "maker.key", "-out", "maker.csr"];
            arguments.extend(["-subj", "/O=Example/CN=maker.example.test"]);
            arguments.extend(["-addext", "subjectAltName=DNS:maker.example.test,IP:192.0.2.7"]);
            arguments.extend(["-addext", "basicConstraints=critical,CA:TRUE"]);
            arguments.extend(["-addext", "keyUsage=critical,keyCertSign"]);
            openssl(&arguments, &directory)?;
            let csr = Csr::for_own_issuer(&fs::read(directory.join("maker.csr"))?)?;

            let mut request = request("", &[], KeyType::P256, days(30, false));
            request.subject = Subject::Csr(csr);
            let signed = issue(&ca(&root)?, &request).await?;
            assert!(signed.key.is_none(), "the maker keeps the key");
            save(&directory, "maker", &signed)?;
            openssl(&["verify", "-CAfile", "root.first", "maker.first"], &directory)?;
            let of_key = openssl(&["pkey", "-in", "maker.key", "-pubout"], &directory)?;
            let of_leaf =
                openssl(&["x509", "-in", "maker.first", "-noout", "-pubkey"], &directory)?;
            assert_eq!(of_key, of_leaf);
            let shown = text(&directory, "maker")?;
            let subject = "O = Example, CN = maker.example.test";
            assert!(shown.contains("IP Address:192.0.2.7") && shown.contains(subject), "{shown}");
            assert!(shown.contains("CA:FALSE") && !shown.contains("Certificate Sign"), "{shown}");
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_ca_does_not_sign_longer_lifetimes_or_cas_beyond_its_path_length() {
    run(async {
        let directory = scratch()?;
        let mut config = vec!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"];
        config.extend(["-keyout", "low.key", "-out", "low.crt", "-subj", "/CN=a low CA"]);
        config.extend(["-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"]);
        openssl(&config, &directory)?;
        let read = |name: &str| fs::read_to_string(directory.join(name));
        let authority = Authority::from_pem(
            read("low.crt")?.as_bytes(),
            read("low.key")?.as_bytes(),
            System.now(),
        )?;
        let low = CaIssuer::new(authority, Arc::new(System), Arc::new(InlineKeyGenerator));
        let ca = request("a CA below", &[], KeyType::P256, days(9, true));
        let error = low.advance(&ca, None).await.map(drop).unwrap_err().to_string();
        assert!(error.contains("the CA may not sign other CAs (pathLenConstraint 0)"), "{error}");
        let long_leaf = request("leaf.example.test", &[], KeyType::P256, days(31, false));
        let error = low.advance(&long_leaf, None).await.map(drop).unwrap_err().to_string();
        assert!(error.contains("is longer than the lifetime of the CA certificate"), "{error}");
        let leaf = request("leaf.example.test", &[], KeyType::P256, days(9, false));
        save(&directory, "leaf", &issue(&low, &leaf).await?)?;
        openssl(&["verify", "-CAfile", "low.crt", "leaf.first"], &directory)?;
        Ok(())
    })
    .unwrap();
}

/// A signing request from OpenSSL with a new key.
fn csr(directory: &Path, key: &str, option: &str, extension: &str) -> Result<Vec<u8>> {
    let mut arguments = vec!["req", "-new", "-nodes", "-newkey", key, "-keyout", "any.key"];
    if !option.is_empty() {
        arguments.extend(["-pkeyopt", option]);
    }
    arguments.extend(["-subj", "/O=Example", "-addext", extension, "-out", "any.csr"]);
    openssl(&arguments, directory)?;
    Ok(fs::read(directory.join("any.csr"))?)
}

#[test]
fn invalid_weak_and_nameless_signing_requests_are_refused_for_every_issuer() {
    run(async {
        let directory = scratch()?;
        let names = |names: &str| format!("subjectAltName={names}");
        let good = names("DNS:a.example.test");
        let made =
            |key: &str, option: &str, extension: &str| csr(&directory, key, option, extension);
        let fine = String::from_utf8(made("rsa:2048", "", &good)?)?;
        let lines: Vec<&str> = fine.lines().collect();
        let half = [&lines[..4], &lines[lines.len() - 1..]].concat().join("\n");
        // The last complete line is part of the signature.
        let mut forged: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        let within = forged.len() - 3;
        forged[within] = forged[within].chars().rev().collect();
        let certificate = fine.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        let ec = |curve: &str| made("ec", &format!("ec_paramgen_curve:{curve}"), &good);
        for (case, text, want) in [
            ("garbage", b"certainly not a request".to_vec(), "it is not PEM"),
            ("nothing", vec![], "it is not PEM"),
            ("binary", vec![0xff; 60_000], "it is not PEM"),
            ("too much", vec![b'x'; 70_000], "it is longer than"),
            ("a certificate", certificate.into_bytes(), "it is PEM of a CERTIFICATE"),
            ("half of one", half.into_bytes(), "it is not a complete PKCS#10 request"),
            ("forged", forged.join("\n").into_bytes(), "its signature does not match its key"),
            ("RSA 1024", made("rsa:1024", "", &good)?, "RSA with 1024 bits"),
            ("P-521", ec("P-521")?, "elliptic curve with"),
            ("Ed25519", made("ed25519", "", &good)?, "unknown algorithm"),
            (
                "a wildcard inside",
                made("rsa:2048", "", &names("DNS:a.*.example.test"))?,
                "a wildcard is allowed as the whole first label only",
            ),
            ("a long label", made("rsa:2048", "", &names(&long()))?, "longer than 63"),
            ("an empty name", made("rsa:2048", "", &names("DNS:a..example.test"))?, "empty"),
        ] {
            for parsed in [Csr::from_pem(&text), Csr::for_own_issuer(&text)] {
                let message = parsed.map(drop).unwrap_err().to_string();
                assert!(message.contains(want), "{case}: {message}");
            }
        }
        assert_eq!(Csr::from_pem(fine.as_bytes())?.names[0].as_str(), "a.example.test");
        let email_only = made("rsa:2048", "", "subjectAltName=email:user@example.test")?;
        assert!(Csr::from_pem(&email_only).unwrap_err().to_string().contains("it names no domain"));
        assert_eq!(Csr::for_own_issuer(&email_only)?.other_names.len(), 1);
        Ok(())
    })
    .unwrap();
}

fn long() -> String {
    format!("DNS:{}.example.test", "a".repeat(64))
}
