//! Accounts of ACME issuers: reads the key from a [`secret`], and finds or registers the account,
//! optionally with an external account [`binding`].

pub mod binding;
pub mod secret;

use std::sync::Arc;

use cert_lib::acme::{
    account::{self, Account, AccountError, RegisteredAccount},
    client::Client as AcmeClient,
    wire::Registration,
};
use kube::Client;
use serde_json::{Value, json};

pub use self::secret::{StoredKey, key_secret, load_key};
use super::{error::IssuerError, server_url::authority};
use crate::api::{Issuer, issuer::AcmeSpec};

/// An account and its representation in the status.
pub struct StoredAccount {
    /// The account.
    pub account: Account,
    /// `status.acme`
    pub registration: Value,
    /// Whether the account was registered now.
    pub is_new: bool,
}

/// Everything needed to find or register the account of an issuer.
pub struct AccountRequest<'a> {
    /// Client of the cluster with the Issuer.
    pub client: &'a Client,
    /// The Issuer.
    pub issuer: &'a Issuer,
    /// Its ACME specification.
    pub spec: &'a AcmeSpec,
    /// Client of its CA.
    pub ca: &'a Arc<AcmeClient>,
}

impl AccountRequest<'_> {
    /// Finds the account of a key: the one in the status, if key and server are the same, otherwise
    /// the one at the CA. Registers it if there is none, and updates its contact.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn find(
        &self,
        stored: &StoredKey,
        remembered: Option<&Value>,
    ) -> Result<StoredAccount, IssuerError> {
        let email = self.spec.email.as_str();
        if let Some(registration) = remembered
            && let Some(url) = remembered_url(registration, &stored.hash, self.ca.directory_url())
        {
            let account = Account::known(Arc::clone(self.ca), stored.key.clone(), url);
            match remembered_email(registration) {
                Some(known) if known == email => {
                    return Ok(StoredAccount {
                        account,
                        registration: registration.clone(),
                        is_new: false,
                    });
                }
                Some(_) => {}
                // Upstream stores no email; the contact is assumed to be correct.
                None => {
                    let mut registration = registration.clone();
                    registration["email"] = json!(email);
                    return Ok(StoredAccount { account, registration, is_new: false });
                }
            }
            match account.set_contact(email).await {
                Ok(updated) => return Ok(self.stored_account(stored, account, &updated, false)),
                Err(AccountError::NotRegistered) => {}
                Err(error) => return Err(contact_error(&error)),
            }
        }
        let RegisteredAccount { account, mut registration, is_new } = self.register(stored).await?;
        // Some CAs do not return the contact; then the email in the status counts, if it is for the
        // same account.
        let before = self.issuer.status.as_ref().and_then(|status| status.acme.as_ref());
        let before = before.filter(|before| url(before) == Some(account.url()));
        let email_at_ca = registration.contact.first().map(|contact| address(contact));
        if !is_new && email_at_ca.or_else(|| before.and_then(remembered_email)) != Some(email) {
            registration =
                account.set_contact(email).await.map_err(|error| contact_error(&error))?;
        }
        Ok(self.stored_account(stored, account, &registration, is_new))
    }

    /// Finds or registers the account of a key. The binding is read only if an account must be
    /// registered.
    ///
    /// # Errors
    /// See [`IssuerError`].
    pub async fn register(&self, stored: &StoredKey) -> Result<RegisteredAccount, IssuerError> {
        let email = Some(self.spec.email.as_str());
        let Some(spec) = &self.spec.external_account_binding else {
            return Ok(account::register(self.ca, &stored.key, email, None).await?);
        };
        match account::find(self.ca, &stored.key).await {
            Err(AccountError::NotRegistered) => {}
            other => return Ok(other?),
        }
        let secret = binding::secret_of(self.issuer, spec);
        let binding = binding::load(self.client, &secret, spec).await?;
        Ok(account::register(self.ca, &stored.key, email, Some(&binding)).await?)
    }

    fn stored_account(
        &self,
        stored: &StoredKey,
        account: Account,
        current: &Registration,
        is_new: bool,
    ) -> StoredAccount {
        let registration = without_nulls(json!({
            "accountURL": account.url(),
            "server": self.ca.directory_url(),
            "secretHash": stored.hash,
            "status": "valid",
            "email": self.spec.email,
            "contact": current.contact,
            "orders": current.orders,
        }));
        StoredAccount { account, registration, is_new }
    }
}

fn contact_error(error: &AccountError) -> IssuerError {
    IssuerError::account("updating the email of the account", error)
}

/// The stored registration after a change of the account key.
pub(super) fn with_key(before: Option<&Value>, account: &Account, hash: &str) -> Value {
    let same = before.filter(|before| url(before) == Some(account.url()));
    let mut registration = same.cloned().unwrap_or_else(|| json!({ "status": "valid" }));
    registration["accountURL"] = json!(account.url());
    registration["server"] = json!(account.client().directory_url());
    registration["secretHash"] = json!(hash);
    registration
}

/// In a merge patch, null means removal.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        other => other,
    }
}

/// The stored account URL, if key and server match. Upstream does not store the server; then the
/// URL must have the same host.
fn remembered_url(registration: &Value, hash: &str, server: &str) -> Option<String> {
    let text = |name: &str| registration.get(name).and_then(Value::as_str);
    if text("secretHash") != Some(hash) {
        return None;
    }
    let account = url(registration)?;
    is_at_server(registration, account, server).then(|| account.to_owned())
}

/// The stored account URL, if it is for this server, whatever the key.
pub(super) fn url_at<'a>(registration: &'a Value, server: &str) -> Option<&'a str> {
    url(registration).filter(|account| is_at_server(registration, account, server))
}

fn is_at_server(registration: &Value, account: &str, server: &str) -> bool {
    match registration.get("server").and_then(Value::as_str) {
        Some(known) => known == server,
        None => authority(account).is_some() && authority(account) == authority(server),
    }
}

/// The contact of the account, as stored by us or upstream.
fn remembered_email(registration: &Value) -> Option<&str> {
    let noted = registration.get("email").and_then(Value::as_str);
    let from_contact = || {
        let contact = registration.get("contact").or_else(|| registration.pointer("/body/contact"));
        contact?.get(0)?.as_str().map(address)
    };
    noted.or_else(from_contact)
}

fn address(contact: &str) -> &str {
    contact.strip_prefix("mailto:").unwrap_or(contact)
}

/// The account URL in a registration, as written by us or a version of upstream.
pub(super) fn url(registration: &Value) -> Option<&str> {
    let text = |name: &str| registration.get(name).and_then(Value::as_str);
    text("accountURL").or_else(|| text("location")).or_else(|| text("uri"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_account_is_used_only_for_its_key_and_server() {
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

    #[test]
    fn the_email_comes_from_the_status_or_the_contact() {
        for (registration, want) in [
            (json!({ "email": "a@x", "contact": ["mailto:b@x"] }), Some("a@x")),
            (json!({ "contact": ["mailto:b@x"] }), Some("b@x")),
            (json!({ "body": { "contact": ["mailto:c@x"] } }), Some("c@x")),
            (json!({ "contact": [] }), None),
            (json!({}), None),
        ] {
            assert_eq!(remembered_email(&registration), want, "{registration}");
        }
    }
}
