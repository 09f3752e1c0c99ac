//! Accounts of ACME issuers: reads the key from a [`secret`], and finds or registers the account,
//! optionally with an external account [`binding`].

pub mod binding;
pub mod secret;

use std::sync::Arc;

use cert_lib::{
    acme::{
        account::{self, Account, AccountError, RegisteredAccount},
        client::{Client as AcmeClient, RequestError},
        problem::Problem,
        wire::Registration,
    },
    issue::{Disposition, RetrySchedule},
    net::HttpError,
};
use jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};

pub use self::secret::{StoredKey, key_secret, load_key};
use super::limits::LONGEST;
use crate::{
    api::{
        Issuer,
        issuer::{AcmeSpec, IssuerStatus, ServerWait},
        time::seconds_up,
    },
    runtime::errors::brief,
};

const TRANSPORT: Disposition = Disposition::Retry(RetrySchedule::Transport);

/// An account and its representation in the status.
pub struct StoredAccount {
    /// The account.
    pub account: Account,
    /// `status.acme`
    pub registration: Value,
    /// Whether the account was registered now.
    pub is_new: bool,
}

/// Why an issuer is not ready.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// The configuration must be changed, as the message says.
    #[error("{0}")]
    InvalidConfig(String),
    /// The CA has deactivated the account.
    #[error("{0}")]
    Deactivated(String),
    /// The CA demanded a wait.
    #[error("{message}")]
    RateLimited {
        /// What failed, and why.
        message: String,
        /// When requests are permitted again.
        until: Timestamp,
        /// URL of the ACME directory.
        server: String,
        /// Hash of the Secret with the account key.
        secret_hash: String,
    },
    /// A request to the CA or to a cluster failed.
    #[error("{message}")]
    Failed {
        /// What failed, and why.
        message: String,
        /// When to retry.
        disposition: Disposition,
    },
}

impl IssuerError {
    pub(super) fn cluster(what: &str, error: &kube::Error) -> Self {
        let message = format!("{what} failed: {}", brief(error));
        Self::Failed { message, disposition: TRANSPORT }
    }

    /// The error for a failed request to the CA, with a hint.
    pub(super) fn account(what: &str, error: &AccountError) -> Self {
        let hint = match error {
            AccountError::BindingRequired => {
                ": set externalAccountBinding to the key identifier that the CA gave you and the \
                 Secret with the key"
            }
            AccountError::Request(RequestError::Transport(HttpError::Untrusted { .. })) => {
                ": add the certificate of its CA with --ca-certificates"
            }
            _ if error.problem().map(Problem::word) == Some(USER_ACTION_REQUIRED) => AGREE_TO_TERMS,
            _ => "",
        };
        let message = format!("{what} failed: {error}{hint}");
        match error.is_deactivated() {
            true => Self::Deactivated(message),
            false => Self::Failed { message, disposition: error.disposition() },
        }
    }

    /// Turns a wait demanded by the CA into [`RateLimited`](Self::RateLimited) for this server and
    /// key.
    pub(super) fn with_server(self, server: &str, secret_hash: &str, now: Timestamp) -> Self {
        match self {
            Self::Failed { message, disposition: Disposition::Until(until) } => {
                let latest = now.saturating_add(LONGEST).unwrap_or(until);
                let (server, secret_hash) = (server.to_owned(), secret_hash.to_owned());
                Self::RateLimited { message, until: until.min(latest), server, secret_hash }
            }
            other => other,
        }
    }

    /// The wait that the status stores, if it is for this server and key.
    pub(super) fn from_status(
        status: &IssuerStatus,
        server: &str,
        secret_hash: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let rest = status.rest.as_ref()?;
        let until: Timestamp = rest.until.parse().ok()?;
        let applies = rest.server == server && rest.secret_hash == secret_hash && now < until;
        let message = status.message.clone().unwrap_or_default();
        let disposition = Disposition::Until(until);
        applies.then(|| Self::Failed { message, disposition }.with_server(server, secret_hash, now))
    }

    /// The wait that the status stores.
    pub(super) fn server_wait(&self) -> Option<ServerWait> {
        match self {
            Self::RateLimited { until, server, secret_hash, .. } => Some(ServerWait {
                until: seconds_up(*until),
                server: server.clone(),
                secret_hash: secret_hash.clone(),
            }),
            Self::Failed { .. } | Self::Deactivated(_) | Self::InvalidConfig(_) => None,
        }
    }

    /// The error for an order that failed because the terms of the CA have changed.
    pub(super) fn terms_changed(why: &str, until: Timestamp) -> Option<Self> {
        why.contains(USER_ACTION_REQUIRED).then(|| Self::Failed {
            message: format!("{why}{AGREE_TO_TERMS}"),
            disposition: Disposition::Until(until),
        })
    }
}

/// RFC 8555 section 7.3.3. Only a person can agree to changed terms.
const USER_ACTION_REQUIRED: &str = "userActionRequired";
const AGREE_TO_TERMS: &str = ": open that page and agree to the terms of the CA; the manager tries again \
     daily, or at once with the annotation gardener.cloud/operation: reconcile";

impl From<AccountError> for IssuerError {
    fn from(error: AccountError) -> Self {
        Self::account("creating registration user", &error)
    }
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

/// Host and port of a URL.
pub(super) fn authority(url: &str) -> Option<String> {
    url.parse::<http::Uri>().ok()?.authority().map(ToString::to_string)
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

    #[test]
    fn the_error_for_changed_terms_says_what_to_do() {
        let until = Timestamp::UNIX_EPOCH;
        assert!(IssuerError::terms_changed("rateLimited: no", until).is_none());
        let error =
            IssuerError::terms_changed("userActionRequired: new terms, see https://ca/tos", until);
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(
            message.starts_with("userActionRequired: new terms, see https://ca/tos: open that")
        );
    }
}
