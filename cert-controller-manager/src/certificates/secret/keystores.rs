//! The keystores in a Secret: whether they open with the password as it is now, and new ones.
//!
//! Nothing tells us when a password changes, because its Secret has no label of ours and to follow all
//! Secrets of a cluster would cost its memory. So whoever has keystores looks again after `pace`,
//! which costs one read of metadata; passwords are read when a version is another one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cert_lib::{
    keystore::{KeystoreContent, KeystoreError, Password, jks, pkcs12},
    model::bundle::{self, Bundle},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::Api;

use super::{
    Facts,
    layout::{self, JKS, JKS_TRUST, PKCS12, PKCS12_TRUST},
    options::{KeystoreOptions, PasswordKey},
};
use crate::{
    api::{ObjectKey, secret::entry},
    certificates::syntax,
    runtime::errors::brief,
};

/// Shortest time between two looks at a password.
const LOOK: SignedDuration = SignedDuration::from_secs(15);
/// Certificates that share a password share the look at it.
const SHARED: SignedDuration = SignedDuration::from_secs(5);
/// Most looks at passwords in a second, all Certificates together.
const LOOKS_PER_SECOND: i64 = 20;

const NO_KEY: &str = "the private key is with whoever made the signing request";

/// How the keystores of a Secret are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum KeystoreInputs {
    /// As asked for.
    #[default]
    Current,
    /// Missing, of another certificate, or with another password.
    Outdated,
    /// They cannot be made; the text says what is missing.
    Unable(String),
}

/// What is known of keystores and passwords: no password.
#[derive(Default)]
pub struct KeystoreChecks(Mutex<Known>);

#[derive(Default)]
struct Known {
    verdicts: HashMap<ObjectKey, Verdict>,
    /// When which version of a password Secret was there.
    passwords: HashMap<ObjectKey, (Timestamp, Option<String>)>,
}

/// What was found about the keystores of a Secret.
struct Verdict {
    /// Of the Secret and of those with the passwords.
    versions: Vec<String>,
    wishes: KeystoreOptions,
    stores: KeystoreInputs,
}

/// Keystores for a Secret.
#[derive(Debug)]
pub struct KeystoreFiles {
    /// Its entries.
    pub entries: Vec<(&'static str, ByteString)>,
}

impl KeystoreChecks {
    /// How the keystores of a Secret are. Never an error: a keystore is no reason not to issue.
    pub async fn look(
        &self,
        api: &Api<Secret>,
        key: &ObjectKey,
        facts: &Facts,
        wishes: &KeystoreOptions,
        now: Timestamp,
    ) -> KeystoreInputs {
        if wishes.is_empty() {
            self.forget(key);
            return KeystoreInputs::Current;
        }
        if !facts.has_key {
            return KeystoreInputs::Unable(NO_KEY.to_owned());
        }
        let mut versions = vec![facts.resource_version.clone()];
        for name in wishes.secrets() {
            let password = ObjectKey::new(&key.namespace, name);
            match self.version(api, &password, now).await {
                Ok(Some(version)) => versions.push(version),
                Ok(None) => {
                    let unable = KeystoreInputs::Unable(missing(&password));
                    return self.note(key, versions, wishes, unable);
                }
                Err(error) => return self.unreadable(key, &password, &error),
            }
        }
        if let Some(stores) = self.known(key, &versions, wishes) {
            return stores;
        }
        let stores = match inspect(api, key, facts, wishes).await {
            Ok(stores) => stores,
            Err(error) => return self.unreadable(key, key, &error),
        };
        self.note(key, versions, wishes, stores)
    }

    /// The version of a password Secret; `None` where there is none.
    async fn version(
        &self,
        api: &Api<Secret>,
        password: &ObjectKey,
        now: Timestamp,
    ) -> kube::Result<Option<String>> {
        if !syntax::is_subdomain(&password.name) {
            return Ok(None);
        }
        let known = self.lock().passwords.get(password).cloned();
        if let Some((at, version)) = known
            && now.duration_since(at) < SHARED
        {
            return Ok(version);
        }
        let found = api.get_metadata_opt(&password.name).await?;
        let version = found.and_then(|found| found.metadata.resource_version);
        let mut known = self.lock();
        known.passwords.retain(|_, (at, _)| now.duration_since(*at) < SHARED);
        known.passwords.insert(password.clone(), (now, version.clone()));
        Ok(version)
    }

    fn known(
        &self,
        key: &ObjectKey,
        versions: &[String],
        wishes: &KeystoreOptions,
    ) -> Option<KeystoreInputs> {
        let known = self.lock();
        let verdict = known.verdicts.get(key)?;
        (verdict.versions == versions && verdict.wishes == *wishes).then(|| verdict.stores.clone())
    }

    fn note(
        &self,
        key: &ObjectKey,
        versions: Vec<String>,
        wishes: &KeystoreOptions,
        stores: KeystoreInputs,
    ) -> KeystoreInputs {
        let verdict = Verdict { versions, wishes: wishes.clone(), stores: stores.clone() };
        self.lock().verdicts.insert(key.clone(), verdict);
        stores
    }

    /// A cluster that says no is told; one that is away changes nothing of what is known.
    fn unreadable(
        &self,
        key: &ObjectKey,
        secret: &ObjectKey,
        error: &kube::Error,
    ) -> KeystoreInputs {
        match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                KeystoreInputs::Unable(cannot_read(secret, error))
            }
            _ => {
                let known = self.lock();
                known.verdicts.get(key).map(|it| it.stores.clone()).unwrap_or_default()
            }
        }
    }

    /// The Secret is gone, or nobody wants keystores in it any more.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().verdicts.remove(key);
    }

    /// When to look at the passwords again.
    #[must_use]
    pub fn recheck_interval(&self) -> SignedDuration {
        let many = i64::try_from(self.lock().verdicts.len()).unwrap_or(i64::MAX);
        LOOK.max(SignedDuration::from_secs(many / LOOKS_PER_SECOND))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(password: &ObjectKey) -> String {
    if syntax::is_subdomain(&password.name) {
        format!("keystore password Secret {password} does not exist: create it")
    } else {
        format!("{:?} is no name of a Secret with a keystore password", password.name)
    }
}

fn cannot_read(secret: &ObjectKey, error: &kube::Error) -> String {
    format!("Secret {secret} cannot be read: {}", brief(error))
}

/// Opens the keystores.
async fn inspect(
    api: &Api<Secret>,
    key: &ObjectKey,
    facts: &Facts,
    wishes: &KeystoreOptions,
) -> kube::Result<KeystoreInputs> {
    let passwords = match Passwords::read(api, &key.namespace, wishes).await? {
        Ok(passwords) => passwords,
        Err(why) => return Ok(KeystoreInputs::Unable(why)),
    };
    if !facts.layout.has_stores(wishes) {
        return Ok(KeystoreInputs::Outdated);
    }
    let Some(secret) = api.get_opt(&key.name).await? else { return Ok(KeystoreInputs::Outdated) };
    let open = tokio::task::spawn_blocking(move || passwords.open(&secret)).await;
    Ok(if open.unwrap_or(false) { KeystoreInputs::Current } else { KeystoreInputs::Outdated })
}

/// The passwords that a Certificate's keystores have.
struct Passwords {
    jks: Option<Password>,
    pkcs12: Option<Password>,
}

impl Passwords {
    /// Reads them. The inner error says what somebody must mend.
    async fn read(
        api: &Api<Secret>,
        namespace: &str,
        wishes: &KeystoreOptions,
    ) -> kube::Result<Result<Self, String>> {
        let jks = match password(api, namespace, wishes.jks.as_ref(), Ok).await? {
            Ok(jks) => jks,
            Err(why) => return Ok(Err(why)),
        };
        let pkcs12 = password(api, namespace, wishes.pkcs12.as_ref(), Password::for_pkcs12).await?;
        Ok(pkcs12.map(|pkcs12| Self { jks, pkcs12 }))
    }

    /// Whether they open what is there.
    fn open(&self, secret: &Secret) -> bool {
        let opens = |name: &str, with: &dyn Fn(&[u8]) -> bool| {
            let bytes = entry(secret, name);
            bytes.is_empty() || with(bytes)
        };
        let jks = |bytes: &[u8]| self.jks.as_ref().is_none_or(|it| jks::opens(bytes, it));
        let pkcs12 = |bytes: &[u8]| self.pkcs12.as_ref().is_none_or(|it| pkcs12::opens(bytes, it));
        opens(JKS, &jks)
            && opens(JKS_TRUST, &jks)
            && opens(PKCS12, &pkcs12)
            && opens(PKCS12_TRUST, &pkcs12)
    }
}

async fn password(
    api: &Api<Secret>,
    namespace: &str,
    wanted: Option<&PasswordKey>,
    fits: impl Fn(Password) -> Result<Password, KeystoreError>,
) -> kube::Result<Result<Option<Password>, String>> {
    let Some(PasswordKey { secret, key }) = wanted else { return Ok(Ok(None)) };
    let name = ObjectKey::new(namespace, secret);
    let found = match syntax::is_subdomain(secret) {
        true => api.get_opt(secret).await?,
        // It would become a part of a URL.
        false => None,
    };
    let Some(found) = found else { return Ok(Err(missing(&name))) };
    let Some(value) = found.data.as_ref().and_then(|data| data.get(key)) else {
        return Ok(Err(format!("keystore password Secret {name} has no key {key:?}: add it")));
    };
    let password = Password::new(&value.0).and_then(fits);
    Ok(password
        .map(Some)
        .map_err(|why| format!("keystore password Secret {name}, key {key}: {why}")))
}

/// Makes the keystores that are asked for.
///
/// # Errors
/// What is missing.
pub async fn make(
    api: &Api<Secret>,
    namespace: &str,
    wishes: &KeystoreOptions,
    bundle: &Bundle,
    ca: &[u8],
    now: Timestamp,
) -> Result<KeystoreFiles, String> {
    if wishes.is_empty() {
        return Ok(KeystoreFiles { entries: Vec::new() });
    }
    if bundle.key.is_none() {
        return Err(NO_KEY.to_owned());
    }
    let passwords = Passwords::read(api, namespace, wishes).await;
    let passwords = passwords
        .map_err(|error| format!("a keystore password cannot be read: {}", brief(&error)))??;
    let (bundle, ca, wishes) = (bundle.clone(), ca.to_vec(), wishes.clone());
    let made = move || entries(&bundle, &ca, &passwords, &wishes, now);
    let made = tokio::task::spawn_blocking(made).await;
    made.map_err(|_| "the keystores cannot be made".to_owned())?
}

fn entries(
    bundle: &Bundle,
    ca: &[u8],
    passwords: &Passwords,
    wishes: &KeystoreOptions,
    created: Timestamp,
) -> Result<KeystoreFiles, String> {
    let ca = bundle::certificates(ca).map_err(|error| format!("ca.crt cannot be used: {error}"))?;
    let material = KeystoreContent { bundle, ca: &ca, created };
    let profile = wishes.profile.unwrap_or_default();
    let mut entries = Vec::new();
    for name in layout::stores(wishes, !ca.is_empty()) {
        let made = match (name, &passwords.jks, &passwords.pkcs12) {
            (JKS, Some(password), _) => jks::keystore(&material, password),
            (JKS_TRUST, Some(password), _) => jks::truststore(&material, password),
            (PKCS12, _, Some(password)) => pkcs12::keystore(&material, password, profile),
            (PKCS12_TRUST, _, Some(password)) => pkcs12::truststore(&material, password, profile),
            _ => continue,
        };
        let bytes = made.map_err(|why| format!("{name}: {why}"))?;
        entries.push((name, ByteString(bytes)));
    }
    Ok(KeystoreFiles { entries })
}
