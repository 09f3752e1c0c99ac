//! The content of a Secret, as openssl and the JDK's keytool read it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use cert_lib::{
    keystore::{KeystoreContent, Password, jks, pkcs12, pkcs12::Profile},
    model::{
        bundle::{Bundle, certificates},
        key::{Encoding, KeyType, PrivateKey},
    },
};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tests::{
    Look, eventually, locate,
    namespace::Namespace,
    objects::{apply, documents},
    processes, run,
    test_env::TestEnv,
};

const SOON: Duration = Duration::from_secs(30);
const KINDS: [KeyType; 5] =
    [KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096, KeyType::P256, KeyType::P384];

/// A directory that is removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("keystores-{}-{name}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<String> {
        let path = self.0.join(name);
        fs::write(&path, bytes)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The output of a program that succeeds.
fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = processes::output(Command::new(program).args(arguments).stderr(Stdio::piped()));
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{} {arguments:?} failed: {text}{error}", program.display());
    }
    Ok(text)
}

fn openssl(arguments: &[&str]) -> Result<String> {
    output(&locate::tool("openssl")?, arguments)
}

fn keytool(arguments: &[&str]) -> Result<String> {
    let language = ["-J-Duser.language=en", "-J-XX:TieredStopAtLevel=1"];
    output(&locate::tool("keytool")?, &[arguments, &language].concat())
}

/// A leaf, its intermediate and its root: `tls.crt` is the first two, `ca.crt` the others.
struct Issued {
    bundle: Bundle,
    ca: String,
}

fn issue(key: &PrivateKey) -> Result<Issued> {
    let authority = |name: &str| -> Result<CertificateParams> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(params)
    };
    let root = CertifiedIssuer::self_signed(authority("root")?, KeyPair::generate()?)?;
    let middle = CertifiedIssuer::signed_by(authority("middle")?, KeyPair::generate()?, &root)?;
    let mut leaf = CertificateParams::new(vec!["a.example".to_owned()])?;
    leaf.distinguished_name.push(DnType::CommonName, "a.example");
    let leaf = leaf.signed_by(&KeyPair::from_pem(&key.pem())?, &middle)?;
    let chain = leaf.pem() + &middle.pem();
    let bundle = Bundle::from_pem(chain.as_bytes(), Some(key.pem().as_bytes()))?;
    Ok(Issued { bundle, ca: middle.pem() + &root.pem() })
}

#[test]
fn private_keys_of_every_kind_and_encoding_load_in_openssl_and_match_their_certificate()
-> Result<()> {
    let directory = Directory::new("keys")?;
    for kind in KINDS {
        let key = PrivateKey::generate(kind)?;
        let issued = issue(&key)?;
        let certificate = directory.file("tls.crt", issued.bundle.certificate_pem())?;
        let certified = openssl(&["x509", "-in", &certificate, "-noout", "-pubkey"])?;
        let traditional = match kind {
            KeyType::P256 | KeyType::P384 => "EC PRIVATE KEY",
            KeyType::Rsa2048 | KeyType::Rsa3072 | KeyType::Rsa4096 => "RSA PRIVATE KEY",
        };
        for (encoding, tag) in [(Encoding::Pkcs1, traditional), (Encoding::Pkcs8, "PRIVATE KEY")] {
            let pem = key.pem_in(encoding)?;
            ensure!(pem.starts_with(&format!("-----BEGIN {tag}-----\n")), "{kind:?} {encoding:?}");
            let file = directory.file("tls.key", pem.as_bytes())?;
            openssl(&["pkey", "-in", &file, "-check", "-noout"])?;
            let public = openssl(&["pkey", "-in", &file, "-pubout"])?;
            ensure!(public == certified, "{kind:?} {encoding:?}");
        }
        let file = directory.file("key.der", key.pkcs8())?;
        let public = openssl(&["pkey", "-inform", "DER", "-in", &file, "-pubout"])?;
        ensure!(public == certified, "{kind:?} in DER");
    }
    Ok(())
}

/// The aliases of a keystore and the types of their entries.
fn aliases(file: &str, password: &str) -> Result<BTreeMap<String, String>> {
    let list = keytool(&["-list", "-keystore", file, "-storepass", password])?;
    let entries = list.lines().filter(|line| line.ends_with("Entry, ") || line.contains("Entry,"));
    let read = |line: &str| {
        let mut parts = line.split(", ");
        let alias = parts.next().unwrap_or_default().to_owned();
        let kind = parts.find(|part| part.contains("Entry")).unwrap_or_default();
        (alias, kind.trim_end_matches([',', ' ']).to_owned())
    };
    Ok(entries.map(read).collect())
}

fn listed(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(alias, kind)| ((*alias).to_owned(), (*kind).to_owned())).collect()
}

const KEY: (&str, &str) = ("certificate", "PrivateKeyEntry");
const CA: (&str, &str) = ("ca", "trustedCertEntry");

/// The public key of the key in a PKCS#12 file.
fn key_in(directory: &Directory, file: &str, password: &str, legacy: bool) -> Result<String> {
    let password = format!("pass:{password}");
    let mut arguments =
        vec!["pkcs12", "-in", file, "-nocerts", "-nodes", "-passin", password.as_str()];
    arguments.extend(legacy.then_some("-legacy"));
    let key = directory.file("extracted.key", openssl(&arguments)?)?;
    openssl(&["pkey", "-in", &key, "-pubout"])
}

#[test]
fn keystores_of_every_kind_of_key_open_in_keytool_and_in_openssl() -> Result<()> {
    let directory = Directory::new("stores")?;
    let ascii = Password::new(b"changeit")?;
    for kind in KINDS {
        let key = PrivateKey::generate(kind)?;
        let issued = issue(&key)?;
        let ca = certificates(issued.ca.as_bytes())?;
        let material =
            KeystoreContent { bundle: &issued.bundle, ca: &ca, created: Timestamp::now() };
        let plain = directory.file("tls.key", key.pem().as_bytes())?;
        let public = openssl(&["pkey", "-in", &plain, "-pubout"])?;

        let store = directory.file("keystore.jks", jks::keystore(&material, &ascii)?)?;
        ensure!(aliases(&store, "changeit")? == listed(&[KEY, CA]), "{kind:?}");
        ensure!(aliases(&store, "changeme").is_err(), "{kind:?}: opens with another password");
        let trust = directory.file("truststore.jks", jks::truststore(&material, &ascii)?)?;
        ensure!(aliases(&trust, "changeit")? == listed(&[CA]), "{kind:?}");
        check_chain(&store, "changeit")?;
        // The key can be exported.
        let other = directory.0.join("imported.p12").to_string_lossy().into_owned();
        keytool(&[
            "-importkeystore",
            "-srckeystore",
            &store,
            "-srcstorepass",
            "changeit",
            "-destkeystore",
            &other,
            "-deststoretype",
            "PKCS12",
            "-deststorepass",
            "changeit",
            "-srcalias",
            "certificate",
            "-noprompt",
        ])?;
        ensure!(key_in(&directory, &other, "changeit", false)? == public, "{kind:?} in JKS");
        fs::remove_file(&other)?;

        for profile in [Profile::Modern2023, Profile::LegacyDes] {
            let legacy = profile == Profile::LegacyDes;
            let what = format!("{kind:?} {}", profile.word());
            let bytes = pkcs12::keystore(&material, &ascii, profile)?;
            let store = directory.file("keystore.p12", bytes)?;
            ensure!(aliases(&store, "changeit")? == listed(&[KEY]), "{what}");
            ensure!(aliases(&store, "changeme").is_err(), "{what}: opens with another password");
            check_chain(&store, "changeit")?;
            ensure!(key_in(&directory, &store, "changeit", legacy)? == public, "{what}");
            ensure!(key_in(&directory, &store, "changeme", legacy).is_err(), "{what}");
            let mut info = vec!["pkcs12", "-info", "-in", &store, "-nokeys", "-passin"];
            info.extend(["pass:changeit"].into_iter().chain(legacy.then_some("-legacy")));
            let found = openssl(&info)?.matches("BEGIN CERTIFICATE").count();
            ensure!(found == 3, "{what}: {found} certificates, not leaf, middle and root");
            let bytes = pkcs12::truststore(&material, &ascii, profile)?;
            let trust = directory.file("truststore.p12", bytes)?;
            ensure!(aliases(&trust, "changeit")? == listed(&[CA]), "{what}");
        }
    }
    Ok(())
}

/// The formats treat characters outside of ASCII differently; Java's PKCS#12 rejects them.
#[test]
fn a_password_may_have_non_ascii_characters() -> Result<()> {
    const PASSWORD: &str = "chängeit €";
    let directory = Directory::new("letters")?;
    let password = Password::new(PASSWORD.as_bytes())?;
    let issued = issue(&PrivateKey::generate(KeyType::P256)?)?;
    let material = KeystoreContent { bundle: &issued.bundle, ca: &[], created: Timestamp::now() };
    let word = directory.file("password", PASSWORD)?;
    let store = directory.file("keystore.jks", jks::keystore(&material, &password)?)?;
    let encoding = ["-J-Dfile.encoding=UTF-8", "-J-Dsun.jnu.encoding=UTF-8"];
    let list = ["-list", "-keystore", &store, "-storepass:file", &word];
    let list = keytool(&[&encoding[..], &list].concat())?;
    ensure!(list.contains("certificate, "), "{list}");
    let word = format!("file:{word}");
    for profile in [Profile::Modern2023, Profile::LegacyDes] {
        let bytes = pkcs12::keystore(&material, &password, profile)?;
        let store = directory.file("keystore.p12", bytes)?;
        openssl(&["pkcs12", "-legacy", "-in", &store, "-nodes", "-passin", &word])?;
    }
    Ok(())
}

/// The chain of the key is the leaf with its issuers.
fn check_chain(file: &str, password: &str) -> Result<()> {
    let details = ["-list", "-v", "-keystore", file, "-storepass", password];
    let list = keytool(&[&details[..], &["-alias", "certificate"]].concat())?;
    let length = list.lines().find_map(|line| line.strip_prefix("Certificate chain length: "));
    let length: usize = length.context("no chain")?.trim().parse()?;
    ensure!((2..=3).contains(&length), "{file}: {length} certificates");
    let owner = list.lines().find_map(|line| line.strip_prefix("Owner: "));
    ensure!(owner == Some("CN=a.example"), "{file}: {owner:?}");
    Ok(())
}

fn data<'a>(secret: &'a Secret, name: &str) -> Result<&'a [u8]> {
    let value: Option<&ByteString> = secret.data.as_ref().and_then(|data| data.get(name));
    Ok(&value.with_context(|| format!("the Secret has no {name}"))?.0)
}

fn names(secret: &Secret) -> Vec<&str> {
    secret.data.iter().flatten().map(|(name, _)| name.as_str()).collect()
}

async fn until(
    namespace: &Namespace,
    what: &str,
    check: impl Fn(&Secret) -> Result<bool>,
) -> Result<Secret> {
    eventually(SOON, what, || async {
        let Some(secret) = namespace.secret("cert-keystores-tls").await? else {
            return Ok(Look::NotYet("there is no Secret".to_owned()));
        };
        Ok(match check(&secret) {
            Ok(true) => Look::Done(secret),
            Ok(false) => Look::NotYet(format!("{:?}", names(&secret))),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    })
    .await
}

async fn set_password(namespace: &Namespace, env: &TestEnv, data: &Value) -> Result<()> {
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keystore-password"},
        "stringData": data,
    });
    apply(&env.control_plane.client(), &namespace.name, &secret).await.map(drop)
}

/// Whether both keystores open and hold the key of this Secret.
fn open(directory: &Directory, secret: &Secret, password: &str) -> Result<()> {
    let key = directory.file("tls.key", data(secret, "tls.key")?)?;
    let public = openssl(&["pkey", "-in", &key, "-pubout"])?;
    let p12 = directory.file("keystore.p12", data(secret, "keystore.p12")?)?;
    ensure!(key_in(directory, &p12, password, false)? == public, "another key");
    let jks = directory.file("keystore.jks", data(secret, "keystore.jks")?)?;
    ensure!(aliases(&jks, password)? == listed(&[KEY, CA]));
    for name in ["truststore.jks", "truststore.p12"] {
        let trust = directory.file(name, data(secret, name)?)?;
        ensure!(aliases(&trust, password)? == listed(&[CA]), "{name}");
    }
    Ok(())
}

const ALL: [&str; 9] = [
    "ca.crt",
    "key.der",
    "keystore.jks",
    "keystore.p12",
    "tls-combined.pem",
    "tls.crt",
    "tls.key",
    "truststore.jks",
    "truststore.p12",
];

#[test]
fn a_secret_has_its_keystores_from_the_first_version_on_and_follows_changes() {
    run(async {
        let env = TestEnv::shared().await?;
        let namespace = Namespace::new(env, "keystores").await?;
        let directory = Directory::new("cluster")?;
        let text = locate::read("examples/31-cert-keystores.yaml")?;
        let text = text.replace("my-company.test", &namespace.domain);
        for mut object in documents(&text.replace("namespace: default", "namespace: keystores"))? {
            object["metadata"]["namespace"] = json!(namespace.name);
            apply(&env.control_plane.client(), &namespace.name, &object).await?;
        }

        // All at once: the Secret never exists without its keystores.
        let first = until(&namespace, "the Secret is there", |_| Ok(true)).await?;
        assert_eq!(names(&first), ALL);
        let written = first.metadata.managed_fields.as_ref().map(Vec::len);
        assert_eq!(written, Some(1), "it was written more than once");
        namespace.until("cert-keystores", "Ready", SOON).await?;
        let now = namespace.secret("cert-keystores-tls").await?.context("it is gone")?;
        assert_eq!(now.resource_version(), first.resource_version(), "it was written again");
        assert_eq!(first.annotations()["example.com/reload"], "true");
        let key = data(&first, "tls.key")?;
        assert!(key.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
        assert_eq!(data(&first, "tls-combined.pem")?, [key, data(&first, "tls.crt")?].concat());
        let der = directory.file("key.der", data(&first, "key.der")?)?;
        openssl(&["pkey", "-inform", "DER", "-in", &der, "-check", "-noout"])?;
        open(&directory, &first, "changeit")?;

        // Another password, the same certificate.
        set_password(&namespace, env, &json!({"password": "another"})).await?;
        let what = "the keystores have the new password";
        let second = until(&namespace, what, |secret| {
            Ok(data(secret, "keystore.jks")? != data(&first, "keystore.jks")?)
        })
        .await?;
        open(&directory, &second, "another")?;
        for name in ["tls.crt", "tls.key", "ca.crt"] {
            assert_eq!(data(&second, name)?, data(&first, name)?, "{name} has changed");
        }

        // An unusable password is reported, and does not affect the certificate and its renewal.
        set_password(&namespace, env, &json!({"password": ""})).await?;
        eventually(SOON, "the Certificate says what is missing", || async {
            let object = namespace.read("Certificate", "cert-keystores").await?;
            let (state, message) = tests::objects::state(&object);
            let is = state == "Ready" && message.contains("the password is empty");
            Ok(if is { Look::Done(()) } else { Look::NotYet(format!("{state}: {message}")) })
        })
        .await?;
        namespace.until_event("cert-keystores", SOON, |it| it.starts_with("Warning Ready")).await?;
        namespace.patch("cert-keystores", json!({"spec": {"renew": true}})).await?;
        let third = until(&namespace, "it is renewed", |secret| {
            Ok(data(secret, "tls.crt")? != data(&second, "tls.crt")?)
        })
        .await?;
        assert_eq!(names(&third), ALL, "entries have vanished");
        assert_eq!(data(&third, "tls.key")?, data(&first, "tls.key")?, "the key was to stay");

        // A good password fixes it.
        set_password(&namespace, env, &json!({"password": "third"})).await?;
        let fourth = until(&namespace, "the keystores are of the new certificate", |secret| {
            Ok(data(secret, "keystore.p12")? != data(&third, "keystore.p12")?)
        })
        .await?;
        open(&directory, &fourth, "third")?;
        assert_eq!(data(&fourth, "tls.crt")?, data(&third, "tls.crt")?);
        namespace.until("cert-keystores", "Ready", SOON).await?;

        // Keystores that are no longer requested are removed, and the key is written in the
        // requested encoding.
        let nothing = json!({"spec": {
            "keystores": null, "additionalOutputFormats": null,
            "privateKey": {"encoding": "PKCS8"},
        }});
        namespace.patch("cert-keystores", nothing).await?;
        let last = until(&namespace, "the keystores are gone", |secret| {
            Ok(names(secret) == ["ca.crt", "tls.crt", "tls.key"])
        })
        .await?;
        assert!(data(&last, "tls.key")?.starts_with(b"-----BEGIN PRIVATE KEY-----"));
        assert_eq!(data(&last, "tls.crt")?, data(&fourth, "tls.crt")?);
        Ok(())
    })
    .unwrap();
}
