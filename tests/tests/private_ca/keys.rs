//! CAs with every kind of key that OpenSSL generates, in every encoding that it writes.

use std::fs;

use cert_lib::acme::jws::AccountKey;

use super::*;

/// A new key, and a CA's certificate for it: `<name>.key` (PKCS#8) and `<name>.crt`.
fn make(directory: &Path, name: &str, algorithm: &str, option: &str) -> Result<()> {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", &key];
    if !option.is_empty() {
        arguments.extend(["-pkeyopt", option]);
    }
    openssl(&arguments, directory)?;
    let mut arguments = vec!["req", "-x509", "-key", &key, "-out", &certificate, "-days", "99"];
    arguments.extend(["-subj", "/CN=a CA", "-addext", "keyUsage=critical,keyCertSign"]);
    openssl(&arguments, directory).map(drop)
}

fn read(directory: &Path, name: &str) -> Result<Vec<u8>> {
    fs::read(directory.join(name)).with_context(|| name.to_owned())
}

fn authority(chain: &[u8], key: &[u8]) -> Result<Authority> {
    Ok(Authority::from_pem(chain, key, System.now())?)
}

/// The key of `<name>.key` in the traditional encoding of its kind.
fn traditional(directory: &Path, name: &str, options: &[&str]) -> Result<Vec<u8>> {
    let (from, to) = (format!("{name}.key"), format!("{name}.old"));
    let kind = if name.starts_with("rsa") { "rsa" } else { "ec" };
    let mut arguments = vec![kind, "-in", &from, "-out", &to];
    if kind == "rsa" {
        arguments.push("-traditional");
    }
    openssl(&[&arguments, options].concat(), directory)?;
    read(directory, &to)
}

const SUPPORTED: [(&str, &str, &str); 7] = [
    ("rsa-2048", "RSA", "rsa_keygen_bits:2048"),
    ("rsa-2560", "RSA", "rsa_keygen_bits:2560"),
    ("rsa-4096", "RSA", "rsa_keygen_bits:4096"),
    ("p-256", "EC", "ec_paramgen_curve:P-256"),
    ("p-384", "EC", "ec_paramgen_curve:P-384"),
    ("p-521", "EC", "ec_paramgen_curve:P-521"),
    ("ed25519", "ED25519", ""),
];

#[test]
fn a_ca_signs_with_every_kind_of_key_and_is_read_in_every_encoding() {
    run(async {
        let directory = scratch()?;
        for (name, algorithm, option) in SUPPORTED {
            make(&directory, name, algorithm, option)?;
            let chain = read(&directory, &format!("{name}.crt"))?;
            let mut forms = vec![read(&directory, &format!("{name}.key"))?];
            if algorithm != "ED25519" {
                forms.push(traditional(&directory, name, &[])?);
            }
            for key in forms {
                let issuer = authority(&chain, &key).with_context(|| name.to_owned())?;
                let issuer = CaIssuer::new(issuer, Arc::new(System), Arc::new(InlineKeyGenerator));
                let leaf = request("leaf.example.test", &[], KeyType::P256, days(9, false));
                save(&directory, "leaf", &issue(&issuer, &leaf).await?)?;
                let file = format!("{name}.crt");
                let verify = ["verify", "-x509_strict", "-CAfile", &file, "leaf.first"];
                openssl(&verify, &directory).with_context(|| name.to_owned())?;
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn keys_and_certificates_are_found_in_other_text() {
    run(async {
        let directory = scratch()?;
        make(&directory, "p-256", "EC", "ec_paramgen_curve:P-256")?;
        let (chain, key) = (read(&directory, "p-256.crt")?, read(&directory, "p-256.key")?);
        // The format of OpenSSL for an export of Windows: Bag Attributes before each block.
        let mut export = vec!["pkcs12", "-export", "-inkey", "p-256.key", "-in", "p-256.crt"];
        export.extend(["-name", "Mueller", "-passout", "pass:", "-out", "all.p12"]);
        openssl(&export, &directory)?;
        let mut parts = vec!["pkcs12", "-in", "all.p12", "-passin", "pass:", "-nodes"];
        parts.extend(["-out", "all.pem"]);
        openssl(&parts, &directory)?;
        let text = String::from_utf8(read(&directory, "all.pem")?)?;
        assert!(text.contains("friendlyName: Mueller"), "{text}");
        let latin = replace(text.as_bytes(), b"Mueller", b"M\xfcller");
        let windows = |text: &[u8]| replace(text, b"\n", b"\r\n");
        let with_text = openssl(&["x509", "-in", "p-256.crt", "-text"], &directory)?.into_bytes();
        let bom = |text: &[u8]| [b"\xef\xbb\xbf", text].concat();
        let cut = |text: &[u8]| text.trim_ascii_end().to_vec();
        let parameters = ["ecparam", "-name", "prime256v1", "-out", "parameters.pem"];
        openssl(&parameters, &directory)?;
        let parameters = read(&directory, "parameters.pem")?;
        for (case, chain, key) in [
            ("PKCS#12 in Latin-1", latin.clone(), latin.clone()),
            ("CRLF", windows(&chain), windows(&key)),
            ("no line end", cut(&chain), cut(&key)),
            ("a byte order mark", bom(&chain), bom(&key)),
            ("text of OpenSSL's", with_text, key.clone()),
            ("parameters before", chain.clone(), [parameters, key.clone()].concat()),
            ("both in both", [key.clone(), chain.clone()].concat(), [chain, key].concat()),
        ] {
            authority(&chain, &key).with_context(|| case.to_owned())?;
            AccountKey::from_pem(&key).with_context(|| case.to_owned())?;
        }
        Ok(())
    })
    .unwrap();
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

#[test]
fn an_unusable_key_is_reported_as_encrypted_or_with_the_supported_kinds() {
    run(async {
        let directory = scratch()?;
        make(&directory, "rsa", "RSA", "rsa_keygen_bits:2048")?;
        make(&directory, "ec", "EC", "ec_paramgen_curve:P-384")?;
        let chain = read(&directory, "rsa.crt")?;
        let mut encrypt = vec!["pkcs8", "-topk8", "-in", "rsa.key", "-passout", "pass:x"];
        encrypt.extend(["-out", "pkcs8.key"]);
        openssl(&encrypt, &directory)?;
        let password = ["-aes128", "-passout", "pass:x"];
        for key in [
            read(&directory, "pkcs8.key")?,
            traditional(&directory, "rsa", &password)?,
            traditional(&directory, "ec", &password)?,
        ] {
            let error = authority(&chain, &key).unwrap_err().to_string();
            let wanted = "the private key is encrypted: store it without a password (openssl pkey";
            assert!(error.contains(wanted), "{error}");
            let error = AccountKey::from_pem(&key).unwrap_err().to_string();
            assert!(error.contains("the account key is encrypted"), "{error}");
        }
        for (algorithm, option, named) in [
            ("RSA", "rsa_keygen_bits:1024", "RSA with 1024 bits"),
            ("RSA-PSS", "rsa_keygen_bits:2048", "RSA-PSS"),
            ("EC", "ec_paramgen_curve:P-224", "ECDSA on P-224"),
            ("EC", "ec_paramgen_curve:secp256k1", "ECDSA on secp256k1"),
            ("ED448", "", "Ed448"),
            ("X25519", "", "X25519"),
        ] {
            let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", "other.key"];
            if !option.is_empty() {
                arguments.extend(["-pkeyopt", option]);
            }
            openssl(&arguments, &directory)?;
            let error = authority(&chain, &read(&directory, "other.key")?).unwrap_err().to_string();
            let kinds = "use RSA with 2048 to 8192 bits, P-256, P-384, P-521 or Ed25519";
            assert!(error.contains(named) && error.contains(kinds), "{algorithm}: {error}");
        }
        Ok(())
    })
    .unwrap();
}
