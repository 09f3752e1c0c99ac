//! Reads, creates and changes the Secret of an account key.

use std::collections::BTreeMap;

use cert_lib::acme::jws::AccountKey;
use k8s_openapi::{ByteString, api::core::v1::Secret, api::core::v1::SecretReference};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    api::{Issuer, ObjectKey, issuer::AcmeSpec, well_known},
    issuers::error::IssuerError,
};

const KEY: &str = "privateKey";
/// Entry with the next key during a rotation.
const NEXT: &str = "nextPrivateKey";
/// Entry of old versions of upstream; ignored.
const OBSOLETE: &str = "email";

/// An account key and the hash of its Secret.
pub struct StoredKey {
    /// The account key.
    pub key: AccountKey,
    /// The next key during a rotation.
    pub next: Option<AccountKey>,
    /// Hash of the Secret's data, as computed by upstream.
    pub hash: String,
    /// Resource version of the Secret.
    version: Option<String>,
    /// Whether the manager created the key, so that no other client uses it.
    pub is_ours: bool,
}

/// The Secret with the account key. The default name contains name and uid of the Issuer, so that
/// it is the same after a crash.
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

/// Reads the account key, or creates one if `autoRegistration` is set. A new key is stored before
/// its registration, so that a crash cannot lose the account.
///
/// # Errors
/// See [`IssuerError`].
pub async fn load_key(
    client: &Client,
    issuer: &Issuer,
    spec: &AcmeSpec,
    key: &ObjectKey,
) -> Result<StoredKey, IssuerError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
    let found = api.get_opt(&key.name).await;
    let found = found.map_err(|error| IssuerError::cluster("loading issuer secret", &error))?;
    if let Some(secret) = found {
        return read(key, &secret);
    }
    if spec.auto_registration != Some(true) {
        return Err(IssuerError::InvalidConfig(match &spec.private_key_secret_ref {
            Some(SecretReference { name: Some(_), .. }) => format!(
                "loading issuer secret failed: Secret {key} does not exist: create it with the account key in PEM under {KEY}, or set autoRegistration"
            ),
            _ => "neither privateKeySecretRef nor autoRegistration is set: set one of them"
                .to_owned(),
        }));
    }
    let (made, text) = generate()?;
    let owner = (issuer.namespace().as_deref() == Some(&key.namespace))
        .then(|| issuer.controller_owner_ref(&()))
        .flatten();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            owner_references: owner.map(|owner| vec![owner]),
            annotations: Some(
                [(well_known::MADE_KEY.to_owned(), made.thumbprint().to_owned())].into(),
            ),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(KEY.to_owned(), text)])),
        ..Secret::default()
    };
    let created = api.create(&PostParams::default(), &secret).await;
    let created =
        created.map_err(|error| IssuerError::cluster("storing the account key", &error))?;
    tracing::info!(issuer = %issuer.name_any(), secret = %key, "created an account key for issuer {} in Secret {key}", issuer.name_any());
    read(key, &created)
}

/// Creates the next key and stores it beside the current one.
///
/// # Errors
/// See [`IssuerError`].
pub async fn store_next(
    client: &Client,
    name: &ObjectKey,
    stored: &StoredKey,
) -> Result<StoredKey, IssuerError> {
    let (_, text) = generate()?;
    write(client, name, stored, None, &json!({ NEXT: text }), "storing the next account key").await
}

/// Makes the next key the current one.
///
/// # Errors
/// See [`IssuerError`].
pub async fn promote_next(
    client: &Client,
    name: &ObjectKey,
    stored: &StoredKey,
    next: &AccountKey,
) -> Result<StoredKey, IssuerError> {
    let data = json!({ KEY: pem(next)?, NEXT: null });
    write(client, name, stored, Some(next), &data, "storing the new account key").await
}

/// Removes the next key.
///
/// # Errors
/// See [`IssuerError`].
pub async fn drop_next(
    client: &Client,
    name: &ObjectKey,
    stored: &StoredKey,
) -> Result<StoredKey, IssuerError> {
    write(client, name, stored, None, &json!({ NEXT: null }), "removing the next account key").await
}

/// Changes the Secret if its version is unchanged. `made` is the new current key, if there is one.
async fn write(
    client: &Client,
    name: &ObjectKey,
    stored: &StoredKey,
    made: Option<&AccountKey>,
    data: &Value,
    what: &str,
) -> Result<StoredKey, IssuerError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &name.namespace);
    let mut metadata = json!({ "resourceVersion": stored.version });
    if let Some(made) = made {
        metadata["annotations"] = json!({ well_known::MADE_KEY: made.thumbprint() });
    }
    let patch = json!({ "metadata": metadata, "data": data });
    let patched = api.patch(&name.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    read(name, &patched.map_err(|error| IssuerError::cluster(what, &error))?)
}

/// Replaces the key of a deactivated account with a new one.
///
/// # Errors
/// See [`IssuerError`].
pub async fn replace(
    client: &Client,
    name: &ObjectKey,
    stored: &StoredKey,
) -> Result<StoredKey, IssuerError> {
    let (made, text) = generate()?;
    let data = json!({ KEY: text, NEXT: null });
    write(client, name, stored, Some(&made), &data, "storing another account key").await
}

fn generate() -> Result<(AccountKey, ByteString), IssuerError> {
    let key =
        AccountKey::generate().map_err(|error| IssuerError::InvalidConfig(error.to_string()))?;
    let text = pem(&key)?;
    Ok((key, text))
}

fn pem(key: &AccountKey) -> Result<ByteString, IssuerError> {
    let text = key.to_pem().map_err(|error| IssuerError::InvalidConfig(error.to_string()))?;
    Ok(ByteString(text.as_bytes().to_vec()))
}

fn read(name: &ObjectKey, secret: &Secret) -> Result<StoredKey, IssuerError> {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let invalid_secret = |why: &str| {
        IssuerError::InvalidConfig(format!(
            "validation of data keys failed for secret {name}: {why}"
        ))
    };
    let others = data.keys().filter(|key| ![KEY, NEXT, OBSOLETE].contains(&key.as_str()));
    let others: Vec<String> = others.map(|key| format!("`{key}`")).collect();
    if !others.is_empty() {
        return Err(invalid_secret(&format!("invalid secret data keys: {}", others.join(", "))));
    }
    let key_of = |name: &str| {
        let invalid_value = |why: &dyn std::fmt::Display| {
            invalid_secret(&format!("value for key `{name}` is invalid: {why}"))
        };
        let Some(value) = data.get(name).filter(|value| !value.0.is_empty()) else {
            return Ok(None);
        };
        AccountKey::from_pem(&value.0).map(Some).map_err(|error| invalid_value(&error))
    };
    let key = key_of(KEY)?.ok_or_else(|| invalid_secret(&format!("there is no {KEY}")))?;
    let made = secret.annotations().get(well_known::MADE_KEY);
    Ok(StoredKey {
        is_ours: made.is_some_and(|made| made == key.thumbprint()),
        key,
        next: key_of(NEXT)?,
        hash: hash(data),
        version: secret.resource_version(),
    })
}

/// Upstream's hash of a Secret's data: name, NUL and value of each entry, sorted by name. The next
/// key is not part of it.
fn hash(data: &BTreeMap<String, ByteString>) -> String {
    let mut bytes = Vec::new();
    for (key, value) in data.iter().filter(|(key, _)| *key != NEXT) {
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(0);
        bytes.extend_from_slice(&value.0);
    }
    cert_lib::model::request::digest(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(data: &[(&str, &[u8])]) -> Secret {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), ByteString(value.to_vec())));
        Secret { data: Some(data.collect()), ..Secret::default() }
    }

    fn fault(data: &[(&str, &[u8])]) -> String {
        match read(&ObjectKey::new("ns", "account"), &secret(data)) {
            Ok(_) => "none".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// faults.md 27
    #[test]
    fn the_error_for_an_invalid_account_secret_says_what_is_wrong() {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let unusable = "the account key is not usable: it must be P-256, P-384, or RSA";
        for (data, want) in [
            (&[][..], "there is no privateKey"),
            (&[(KEY, &b""[..])], "there is no privateKey"),
            (&[(KEY, b"\xff")], "decoding pem block for private key failed"),
            (
                &[(KEY, b"dummy")],
                "secret ns/account: value for key `privateKey` is invalid: decoding pem block for \
                 private key failed",
            ),
            (&[(KEY, key.as_bytes())], unusable),
            (&[("tls.key", b"x")], "secret ns/account: invalid secret data keys: `tls.key`"),
        ] {
            let fault = fault(data);
            assert!(fault.starts_with("validation of data keys failed for secret ns/account: "));
            assert!(fault.contains(want), "{fault}");
        }
    }

    #[test]
    fn the_next_key_does_not_change_the_hash_before_it_is_promoted() {
        let (_, one) = generate().unwrap();
        let (_, two) = generate().unwrap();
        let name = ObjectKey::new("ns", "account");
        let of = |data: &[(&str, &[u8])]| read(&name, &secret(data)).map_err(|it| it.to_string());
        let before = of(&[(KEY, &one.0)]).unwrap();
        let during = of(&[(KEY, &one.0), (NEXT, &two.0), (OBSOLETE, b"")]).unwrap();
        let after = of(&[(KEY, &two.0)]).unwrap();
        assert_eq!(of(&[(KEY, &one.0), (NEXT, b"")]).unwrap().hash, before.hash);
        assert_eq!(during.key.thumbprint(), before.key.thumbprint());
        assert_eq!(during.next.unwrap().thumbprint(), after.key.thumbprint());
        assert_ne!(before.hash, after.hash);
        assert!(fault(&[(KEY, &one.0), (NEXT, b"x")]).contains("key `nextPrivateKey` is invalid"));
    }
}
