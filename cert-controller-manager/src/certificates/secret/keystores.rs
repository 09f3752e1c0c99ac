//! Keystores in a Secret: creates them, and checks that they open with the current passwords.
//!
//! Password Secrets do not have our label, and a watch of all Secrets would need too much memory.
//! So Certificates with keystores get a pass each
//! [`recheck_interval`](KeystoreChecks::recheck_interval). That costs one read of metadata;
//! passwords are read only if a version has changed.

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

use super::{
    facts::Facts,
    layout::{self, JKS, JKS_TRUST, PKCS12, PKCS12_TRUST},
    options::{KeystoreOptions, PasswordKey},
};
use crate::{
    api::{ObjectKey, secret::entry},
    certificates::syntax,
    runtime::{errors::brief, store::Store},
};

/// Minimum interval between two checks of a password Secret.
const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(15);
/// Certificates with the same password Secret share the result of one read for this time.
const VERSION_CACHE_TIME: SignedDuration = SignedDuration::from_secs(5);
/// Maximum number of checks per second for all Certificates.
const MAX_CHECKS_PER_SECOND: i64 = 20;

const NO_KEY: &str = "the certificate is for a signing request, so the manager has no private key";

/// State of the keystores in a Secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum KeystoreState {
    /// As requested.
    #[default]
    Current,
    /// Missing, for another certificate, or with another password.
    Outdated,
    /// They cannot be created, for this reason.
    Unable(String),
}

/// Cached results of checks and versions of password Secrets; no passwords.
#[derive(Default)]
pub struct KeystoreChecks(Mutex<Known>);

#[derive(Default)]
struct Known {
    results: HashMap<ObjectKey, CheckResult>,
    /// Version of each password Secret, and when it was read.
    passwords: HashMap<ObjectKey, (Timestamp, Option<String>)>,
}

/// Result of a check, and what it depends on.
struct CheckResult {
    /// Resource versions of the Secret and of the password Secrets.
    versions: Vec<String>,
    options: KeystoreOptions,
    state: KeystoreState,
}

/// Keystores for a Secret.
#[derive(Debug)]
pub struct KeystoreFiles {
    /// Names and contents of the entries.
    pub entries: Vec<(&'static str, ByteString)>,
}

impl KeystoreChecks {
    /// Checks the keystores of a Secret. Returns no error: keystores must not prevent an issuance.
    pub async fn check(
        &self,
        api: &dyn Store<Secret>,
        key: &ObjectKey,
        facts: &Facts,
        options: &KeystoreOptions,
        now: Timestamp,
    ) -> KeystoreState {
        if options.is_empty() {
            self.forget(key);
            return KeystoreState::Current;
        }
        if !facts.has_key {
            return KeystoreState::Unable(NO_KEY.to_owned());
        }
        let mut versions = vec![facts.resource_version.clone()];
        for name in options.secrets() {
            let password = ObjectKey::new(&key.namespace, name);
            match self.version(api, &password, now).await {
                Ok(Some(version)) => versions.push(version),
                Ok(None) => {
                    let unable = KeystoreState::Unable(missing(&password));
                    return self.remember(key, versions, options, unable);
                }
                Err(error) => return self.unreadable(key, &password, &error),
            }
        }
        if let Some(state) = self.known(key, &versions, options) {
            return state;
        }
        let state = match inspect(api, key, facts, options).await {
            Ok(state) => state,
            Err(error) => return self.unreadable(key, key, &error),
        };
        self.remember(key, versions, options, state)
    }

    /// The resource version of a password Secret; `None` if it does not exist.
    async fn version(
        &self,
        api: &dyn Store<Secret>,
        password: &ObjectKey,
        now: Timestamp,
    ) -> kube::Result<Option<String>> {
        if !syntax::is_subdomain(&password.name) {
            return Ok(None);
        }
        let known = self.lock().passwords.get(password).cloned();
        if let Some((at, version)) = known
            && now.duration_since(at) < VERSION_CACHE_TIME
        {
            return Ok(version);
        }
        let found = api.get_metadata_opt(&password.name).await?;
        let version = found.and_then(|found| found.metadata.resource_version);
        let mut known = self.lock();
        known.passwords.retain(|_, (at, _)| now.duration_since(*at) < VERSION_CACHE_TIME);
        known.passwords.insert(password.clone(), (now, version.clone()));
        Ok(version)
    }

    fn known(
        &self,
        key: &ObjectKey,
        versions: &[String],
        options: &KeystoreOptions,
    ) -> Option<KeystoreState> {
        let known = self.lock();
        let result = known.results.get(key)?;
        (result.versions == versions && result.options == *options).then(|| result.state.clone())
    }

    fn remember(
        &self,
        key: &ObjectKey,
        versions: Vec<String>,
        options: &KeystoreOptions,
        state: KeystoreState,
    ) -> KeystoreState {
        let result = CheckResult { versions, options: options.clone(), state: state.clone() };
        self.lock().results.insert(key.clone(), result);
        state
    }

    /// A refused read is reported. If the cluster is unavailable, the last result stays.
    fn unreadable(
        &self,
        key: &ObjectKey,
        secret: &ObjectKey,
        error: &kube::Error,
    ) -> KeystoreState {
        match error {
            kube::Error::Api(status) if matches!(status.code, 401 | 403) => {
                KeystoreState::Unable(cannot_read(secret, error))
            }
            _ => {
                let known = self.lock();
                known.results.get(key).map(|it| it.state.clone()).unwrap_or_default()
            }
        }
    }

    /// Removes the result for a Secret that was deleted or needs no keystores.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().results.remove(key);
    }

    /// Interval between checks, longer if there are many Certificates with keystores.
    #[must_use]
    pub fn recheck_interval(&self) -> SignedDuration {
        let count = i64::try_from(self.lock().results.len()).unwrap_or(i64::MAX);
        MIN_INTERVAL.max(SignedDuration::from_secs(count / MAX_CHECKS_PER_SECOND))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn missing(password: &ObjectKey) -> String {
    if syntax::is_subdomain(&password.name) {
        format!("keystore password Secret {password} does not exist: create it")
    } else {
        format!("keystore password Secret {:?} is not a valid Secret name", password.name)
    }
}

fn cannot_read(secret: &ObjectKey, error: &kube::Error) -> String {
    format!("cannot read Secret {secret}: {}", brief(error))
}

/// Opens the keystores with the current passwords.
async fn inspect(
    api: &dyn Store<Secret>,
    key: &ObjectKey,
    facts: &Facts,
    options: &KeystoreOptions,
) -> kube::Result<KeystoreState> {
    let passwords = match Passwords::read(api, &key.namespace, options).await? {
        Ok(passwords) => passwords,
        Err(why) => return Ok(KeystoreState::Unable(why)),
    };
    if !facts.layout.has_stores(options) {
        return Ok(KeystoreState::Outdated);
    }
    let Some(secret) = api.get_opt(&key.name).await? else { return Ok(KeystoreState::Outdated) };
    let opened = tokio::task::spawn_blocking(move || passwords.can_open(&secret)).await;
    Ok(if opened.unwrap_or(false) { KeystoreState::Current } else { KeystoreState::Outdated })
}

/// The passwords of a Certificate's keystores.
struct Passwords {
    jks: Option<Password>,
    pkcs12: Option<Password>,
}

impl Passwords {
    /// Reads the passwords. The inner error says what to fix.
    async fn read(
        api: &dyn Store<Secret>,
        namespace: &str,
        options: &KeystoreOptions,
    ) -> kube::Result<Result<Self, String>> {
        let jks = match password(api, namespace, options.jks.as_ref(), Ok).await? {
            Ok(jks) => jks,
            Err(why) => return Ok(Err(why)),
        };
        let pkcs12 =
            password(api, namespace, options.pkcs12.as_ref(), Password::for_pkcs12).await?;
        Ok(pkcs12.map(|pkcs12| Self { jks, pkcs12 }))
    }

    /// Whether the passwords open all keystores in the Secret.
    fn can_open(&self, secret: &Secret) -> bool {
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
    api: &dyn Store<Secret>,
    namespace: &str,
    wanted: Option<&PasswordKey>,
    fits: impl Fn(Password) -> Result<Password, KeystoreError>,
) -> kube::Result<Result<Option<Password>, String>> {
    let Some(PasswordKey { secret, key }) = wanted else { return Ok(Ok(None)) };
    let name = ObjectKey::new(namespace, secret);
    let found = match syntax::is_subdomain(secret) {
        true => api.get_opt(secret).await?,
        // An invalid name must not become part of a URL.
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

/// Creates the requested keystores.
///
/// # Errors
/// What is missing.
pub async fn make(
    api: &dyn Store<Secret>,
    namespace: &str,
    options: &KeystoreOptions,
    bundle: &Bundle,
    ca: &[u8],
    now: Timestamp,
) -> Result<KeystoreFiles, String> {
    if options.is_empty() {
        return Ok(KeystoreFiles { entries: Vec::new() });
    }
    if bundle.key.is_none() {
        return Err(NO_KEY.to_owned());
    }
    let passwords = Passwords::read(api, namespace, options).await;
    let passwords = passwords
        .map_err(|error| format!("cannot read a keystore password: {}", brief(&error)))??;
    let (bundle, ca, options) = (bundle.clone(), ca.to_vec(), options.clone());
    let made = move || entries(&bundle, &ca, &passwords, &options, now);
    let made = tokio::task::spawn_blocking(made).await;
    made.map_err(|_| "cannot create the keystores".to_owned())?
}

fn entries(
    bundle: &Bundle,
    ca: &[u8],
    passwords: &Passwords,
    options: &KeystoreOptions,
    created: Timestamp,
) -> Result<KeystoreFiles, String> {
    let ca = bundle::certificates(ca).map_err(|error| format!("ca.crt cannot be used: {error}"))?;
    let content = KeystoreContent { bundle, ca: &ca, created };
    let profile = options.profile.unwrap_or_default();
    let mut entries = Vec::new();
    for name in layout::stores(options, !ca.is_empty()) {
        let made = match (name, &passwords.jks, &passwords.pkcs12) {
            (JKS, Some(password), _) => jks::keystore(&content, password),
            (JKS_TRUST, Some(password), _) => jks::truststore(&content, password),
            (PKCS12, _, Some(password)) => pkcs12::keystore(&content, password, profile),
            (PKCS12_TRUST, _, Some(password)) => pkcs12::truststore(&content, password, profile),
            _ => continue,
        };
        let bytes = made.map_err(|why| format!("{name}: {why}"))?;
        entries.push((name, ByteString(bytes)));
    }
    Ok(KeystoreFiles { entries })
}
