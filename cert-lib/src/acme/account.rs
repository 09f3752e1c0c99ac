//! Accounts (RFC 8555 section 7.3): registering a key, and speaking for it afterwards.
//!
//! Not here: external account binding, key change, and keeping the key. Store it before you
//! [`register`] it, or a crash in between loses the account.

use std::{fmt, sync::Arc};

use serde::Serialize;

use crate::{
    acme::{
        client::{Client, Reply, RequestError},
        jws::{AccountKey, Signer},
        problem::{Concern, Problem},
        wire::{AccountStatus, Registration},
    },
    issue::Disposition,
};

/// An account at a CA. Cheap to clone; prints its URL only.
#[derive(Clone)]
pub struct Account {
    client: Arc<Client>,
    key: AccountKey,
    url: String,
}

/// Why there is no account.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccountError {
    /// The CA does not know the key, and was not to create an account for it.
    #[error("the CA has no account for this key")]
    NotRegistered,
    /// The CA knows the key, but the account is closed.
    #[error("the account {url} is {status:?}: use another account key")]
    Closed {
        /// The account.
        url: String,
        /// What the CA says.
        status: AccountStatus,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl AccountError {
    /// Who must do what before another try can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NotRegistered | Self::Closed { .. } => Disposition::FixIssuer,
            Self::Request(error) => error.disposition(Concern::Account),
        }
    }
}

/// Finds the account of `key`, or creates it unless `only_return_existing` (section 7.3.1), which
/// agrees to the CA's terms of service. *Idempotent*: a key has one account. An existing account
/// keeps its contact.
///
/// # Errors
/// See [`AccountError`].
pub async fn register(
    client: &Arc<Client>,
    key: &AccountKey,
    email: Option<&str>,
    only_return_existing: bool,
) -> Result<(Account, Registration), AccountError> {
    let payload = NewAccount {
        terms_of_service_agreed: true,
        contact: email.map(|address| format!("mailto:{address}")).into_iter().collect(),
        only_return_existing,
    };
    let url = client.directory().await?.new_account.clone();
    let outcome = client.post(key, Signer::Key, &url, &json(&payload)).await;
    let reply = outcome.map_err(|error| {
        let problem = error.problem();
        if problem.is_some_and(|problem| problem.word() == "accountDoesNotExist") {
            return AccountError::NotRegistered;
        }
        if problem.is_some_and(Problem::is_gone) {
            client.forget_directory();
        }
        error.into()
    })?;
    let url = reply.location()?.to_owned();
    let registration: Registration = reply.json()?;
    match registration.status {
        status @ (AccountStatus::Deactivated | AccountStatus::Revoked) => {
            Err(AccountError::Closed { url, status })
        }
        AccountStatus::Valid | AccountStatus::Unknown => {
            Ok((Account::known(Arc::clone(client), key.clone(), url), registration))
        }
    }
}

impl Account {
    /// An account that [`register`] returned before, by its URL. Asks nothing.
    #[must_use]
    pub fn known(client: Arc<Client>, key: AccountKey, url: impl Into<String>) -> Self {
        Self { client, key, url: url.into() }
    }

    /// What the CA calls it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &AccountKey {
        &self.key
    }

    /// Its CA.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// POST in the name of the account.
    pub(crate) async fn post(
        &self,
        url: &str,
        payload: &impl Serialize,
    ) -> Result<Reply, RequestError> {
        self.client.post(&self.key, Signer::Account(&self.url), url, &json(payload)).await
    }

    /// POST-as-GET in the name of the account (section 6.3).
    pub(crate) async fn fetch(&self, url: &str) -> Result<Reply, RequestError> {
        self.client.post(&self.key, Signer::Account(&self.url), url, "").await
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewAccount {
    terms_of_service_agreed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    contact: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    only_return_existing: bool,
}

/// Our own payloads have string keys and no failing parts, so this never falls back.
fn json(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        clock::Manual,
        issue::Ladder,
        net::scripted::{Answer, Scripted, reply},
    };

    fn ca(status: u16, body: &Value) -> (Arc<Client>, Arc<Scripted>) {
        let body = body.clone();
        let http = Arc::new(Scripted::new(move |seen| {
            let next: fn(u16) -> Answer = |status| reply(status).nonce("n");
            match seen.path() {
                "/dir" => next(200).json(&json!({"newNonce": "https://ca/n",
                    "newAccount": "https://ca/new-account", "newOrder": "https://ca/o"})),
                _ => next(status).header("location", "https://ca/account/7").json(&body),
            }
        }));
        let clock = Arc::new(Manual::at("2026-11-22T10:00:00Z".parse().unwrap()));
        (Arc::new(Client::new(http.clone(), clock, "https://ca/dir")), http)
    }

    fn problem(word: &str) -> Value {
        json!({"type": format!("urn:ietf:params:acme:error:{word}"), "detail": "no"})
    }

    #[tokio::test]
    async fn registering_signs_with_the_key_and_agrees_to_the_terms() {
        let (client, http) = ca(201, &json!({"status": "valid", "orders": "https://ca/orders"}));
        let key = AccountKey::generate().unwrap();
        let (account, registration) =
            register(&client, &key, Some("me@example.org"), false).await.unwrap();
        assert_eq!(account.url(), "https://ca/account/7");
        assert_eq!(registration.status, AccountStatus::Valid);
        let sent = http.seen().pop().unwrap();
        assert_eq!(
            sent.payload,
            json!({"termsOfServiceAgreed": true, "contact": ["mailto:me@example.org"]})
        );
        assert!(sent.header["jwk"].is_object() && sent.header["kid"].is_null());
        assert!(!format!("{account:?}").contains("key"));
    }

    #[tokio::test]
    async fn what_went_wrong_says_who_must_act() {
        for (status, body, want, disposition) in [
            (
                400,
                problem("accountDoesNotExist"),
                "the CA has no account for this key",
                Disposition::FixIssuer,
            ),
            (
                403,
                problem("externalAccountRequired"),
                "externalAccountRequired: no (HTTP 403)",
                Disposition::FixIssuer,
            ),
            (403, problem("unauthorized"), "unauthorized: no (HTTP 403)", Disposition::FixIssuer),
            (
                500,
                problem("serverInternal"),
                "serverInternal: no (HTTP 500)",
                Disposition::Retry(Ladder::Transport),
            ),
            (
                200,
                json!({"status": "deactivated"}),
                "the account https://ca/account/7 is Deactivated: use another account key",
                Disposition::FixIssuer,
            ),
        ] {
            let (client, http) = ca(status, &body);
            let key = AccountKey::generate().unwrap();
            let error = register(&client, &key, None, true).await.unwrap_err();
            assert_eq!((error.to_string().as_str(), error.disposition()), (want, disposition));
            let sent = http.seen().pop().unwrap().payload;
            assert_eq!(sent, json!({"termsOfServiceAgreed": true, "onlyReturnExisting": true}));
        }
    }
}
