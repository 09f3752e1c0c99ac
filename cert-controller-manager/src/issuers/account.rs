//! What an ACME issuer needs before it can issue: its key from a Secret, its account at the CA.

use std::collections::BTreeMap;

use cert_lib::acme::{
    account::{Account, AccountError, register},
    jws::AccountKey,
};
use k8s_openapi::{ByteString, api::core::v1::Secret, api::core::v1::SecretReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::{
    api::{Issuer, ObjectKey, issuer::AcmeSpec},
    runtime::errors::brief,
};

const KEY: &str = "privateKey";
/// Upstream wrote it once and still tolerates it.
const OBSOLETE: &str = "email";

/// An account, ready for use, and what the status keeps of it.
pub struct Found {
    /// The account.
    pub account: Account,
    /// `status.acme`
    pub registration: Value,
}

/// Why an issuer cannot issue.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Somebody must change something; the text says what.
    #[error("{0}")]
    Mend(String),
    /// The CA or a cluster did not do what it was asked for.
    #[error("{message}")]
    Failed {
        /// What failed, and why.
        message: String,
        /// When to try again.
        disposition: cert_lib::issue::Disposition,
    },
}

impl Trouble {
    fn cluster(what: &str, error: &kube::Error) -> Self {
        Self::Failed {
            message: format!("{what} failed: {}", brief(error)),
            disposition: cert_lib::issue::Disposition::Retry(cert_lib::issue::Ladder::Transport),
        }
    }
}

impl From<AccountError> for Trouble {
    fn from(error: AccountError) -> Self {
        Self::Failed {
            disposition: error.disposition(),
            message: format!("creating registration user failed: {error}"),
        }
    }
}

/// A private key in a Secret, and the hash by which a change is noticed.
pub struct StoredKey {
    /// The key.
    pub key: AccountKey,
    /// Hash of the Secret's data, as upstream computes it.
    pub hash: String,
}

/// Where the account key is. Where the issuer does not say, the name is made from its own and its
/// uid: the same after a crash.
#[must_use]
pub fn key_secret(issuer: &Issuer, spec: &AcmeSpec) -> ObjectKey {
    let reference = spec.private_key_secret_ref.clone().unwrap_or_default();
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let uid: String = issuer.uid().unwrap_or_default().chars().take(8).collect();
    ObjectKey {
        namespace: some(reference.namespace)
            .unwrap_or_else(|| issuer.namespace().unwrap_or_default()),
        name: some(reference.name).unwrap_or_else(|| format!("{}-{uid}", issuer.name_any())),
    }
}

/// Reads the account key, or makes and stores one where the issuer may register by itself. A new
/// key is stored before the CA hears of it, so that a crash does not lose the account.
///
/// # Errors
/// See [`Trouble`].
pub async fn load_key(
    client: &Client,
    issuer: &Issuer,
    spec: &AcmeSpec,
    key: &ObjectKey,
) -> Result<StoredKey, Trouble> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    let found = api.get_opt(&key.name).await;
    let found = found.map_err(|error| Trouble::cluster("loading issuer secret", &error))?;
    if let Some(secret) = found {
        return read(key, &secret);
    }
    if spec.auto_registration != Some(true) {
        return Err(Trouble::Mend(match &spec.private_key_secret_ref {
            Some(SecretReference { name: Some(_), .. }) => format!(
                "loading issuer secret failed: Secret {key} does not exist: create it with the account key in PEM under {KEY}, or set autoRegistration"
            ),
            _ => "neither privateKeySecretRef nor autoRegistration is set: name the Secret of an existing account key, or let one be made".to_owned(),
        }));
    }
    let generated = AccountKey::generate().and_then(|made| Ok((made.to_pem()?, made)));
    let (text, _) = generated.map_err(|error| Trouble::Mend(error.to_string()))?;
    let owner = (issuer.namespace().as_deref() == Some(&key.namespace))
        .then(|| issuer.controller_owner_ref(&()))
        .flatten();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(KEY.to_owned(), ByteString(text.as_bytes().to_vec()))])),
        ..Secret::default()
    };
    let created = api.create(&PostParams::default(), &secret).await;
    let created = created.map_err(|error| Trouble::cluster("storing the account key", &error))?;
    tracing::info!(issuer = %issuer.name_any(), secret = %key, "made an account key for issuer {}, it is in Secret {key}", issuer.name_any());
    read(key, &created)
}

fn read(name: &ObjectKey, secret: &Secret) -> Result<StoredKey, Trouble> {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let wrong = |why: &str| {
        Trouble::Mend(format!("validation of data keys failed for secret {name}: {why}"))
    };
    if let Some(other) = data.keys().find(|key| *key != KEY && *key != OBSOLETE) {
        return Err(wrong(&format!("invalid secret data keys: {other}; only {KEY} is allowed")));
    }
    let value = data.get(KEY).filter(|value| !value.0.is_empty());
    let value = value.ok_or_else(|| wrong(&format!("there is no {KEY}")))?;
    let text = std::str::from_utf8(&value.0)
        .map_err(|_| wrong(&format!("value for key {KEY} is invalid: it is not PEM")))?;
    let key = AccountKey::from_pem(text)
        .map_err(|error| wrong(&format!("value for key {KEY} is invalid: {error}")))?;
    Ok(StoredKey { key, hash: hash(data) })
}

/// Upstream's hash of a Secret's data: key, NUL, value, in the order of the keys.
fn hash(data: &BTreeMap<String, ByteString>) -> String {
    let mut bytes = Vec::new();
    for (key, value) in data {
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&value.0);
    }
    cert_lib::model::request::digest(&bytes)
}

/// The account of a key: the one that the status remembers, if it is still the same key and server,
/// else the one that the CA finds or makes.
///
/// # Errors
/// See [`Trouble`].
pub async fn find(
    client: &Arc<cert_lib::acme::client::Client>,
    stored: &StoredKey,
    email: &str,
    remembered: Option<&Value>,
) -> Result<Found, Trouble> {
    if let Some(registration) = remembered
        && let Some(url) = remembered_url(registration, &stored.hash, client.directory_url())
    {
        let account = Account::known(Arc::clone(client), stored.key.clone(), url);
        return Ok(Found { account, registration: registration.clone() });
    }
    let (account, told) = register(client, &stored.key, Some(email), false).await?;
    let registration = json!({
        "accountURL": account.url(),
        "server": client.directory_url(),
        "secretHash": stored.hash,
        "status": "valid",
        "contact": told.contact,
        "orders": told.orders,
    });
    let registration = without_nulls(registration);
    Ok(Found { account, registration })
}

/// Merge patches cannot say null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

/// Upstream does not remember the server; its account URL must then be on the server's host.
fn remembered_url(registration: &Value, hash: &str, server: &str) -> Option<String> {
    let text = |name: &str| registration.get(name).and_then(Value::as_str);
    if text("secretHash") != Some(hash) {
        return None;
    }
    let account = url(registration)?;
    let same_server = match text("server") {
        Some(known) => known == server,
        None => authority(account).is_some() && authority(account) == authority(server),
    };
    same_server.then(|| account.to_owned())
}

/// The account that a registration is about, as we or one of upstream's versions wrote it.
pub(super) fn url(registration: &Value) -> Option<&str> {
    let text = |name: &str| registration.get(name).and_then(Value::as_str);
    text("accountURL").or_else(|| text("location")).or_else(|| text("uri"))
}

/// Host and port of a URL.
pub(super) fn authority(url: &str) -> Option<String> {
    url.parse::<http::Uri>().ok()?.authority().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remembered_account_counts_for_its_key_and_server_only() {
        let upstream = json!({ "accountURL": "https://ca.example/acct/1", "secretHash": "h" });
        let ours = json!({ "accountURL": "https://other.example/1", "secretHash": "h", "server": "https://ca.example/dir" });
        for (registration, hash, server, counts) in [
            (&upstream, "h", "https://ca.example/dir", true),
            (&upstream, "changed", "https://ca.example/dir", false),
            (&upstream, "h", "https://elsewhere.example/dir", false),
            (&ours, "h", "https://ca.example/dir", true),
            (&ours, "h", "https://ca.example/other", false),
        ] {
            let found = remembered_url(registration, hash, server);
            assert_eq!(found.is_some(), counts, "{registration} {hash} {server}");
        }
    }
}
