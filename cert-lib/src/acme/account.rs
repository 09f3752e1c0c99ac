//! Accounts (RFC 8555 section 7.3): registers a key and signs requests with it. [`binding`] is the
//! external account binding, [`rollover`] changes the key of an account.
//!
//! Not here: storing the key. Store it before you [`register`] it, or a crash in between loses the
//! account.

pub mod binding;
pub mod rollover;

use std::{fmt, sync::Arc};

use serde::Serialize;

use self::binding::Binding;
use crate::{
    acme::{
        client::{Client, Reply, RequestError},
        jws::{AccountKey, Flattened, Signer},
        problem::{Problem, ProblemScope},
        wire::{AccountStatus, Registration},
    },
    model::disposition::Disposition,
};

/// An account at a CA. Cheap to clone; prints its URL only.
#[derive(Clone)]
pub struct Account {
    client: Arc<Client>,
    key: AccountKey,
    url: String,
}

/// An account that exists at the CA.
#[derive(Clone, Debug)]
pub struct RegisteredAccount {
    /// Signs requests for it.
    pub account: Account,
    /// The account object that the CA returned.
    pub registration: Registration,
    /// Whether this call created it.
    pub is_new: bool,
}

/// Why there is no account.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AccountError {
    /// The CA does not know the key, and the request did not allow it to create an account.
    #[error("the CA has no account for this key")]
    NotRegistered,
    /// The CA knows the key, but the account is closed.
    #[error("the account {url} is {status:?}: use another account key")]
    Closed {
        /// The account.
        url: String,
        /// The status that the CA returned.
        status: AccountStatus,
    },
    /// The CA refuses the key. Some CAs answer so for a deactivated account.
    #[error("{0}; if the account was deactivated, use another account key")]
    Unauthorized(Box<Problem>),
    /// The CA only registers clients that its operator knows.
    #[error("the CA requires an external account binding, and none is configured")]
    BindingRequired,
    /// The CA has no way to change a key.
    #[error("the CA does not support account key changes")]
    NoKeyChange,
    /// The new key is that of another account.
    #[error("the new key belongs to another account, {url}")]
    KeyInUse {
        /// The other account.
        url: String,
    },
    /// The request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
}

impl AccountError {
    /// Who must act before a retry can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NotRegistered
            | Self::Closed { .. }
            | Self::BindingRequired
            | Self::NoKeyChange
            | Self::KeyInUse { .. } => Disposition::FixIssuer,
            Self::Unauthorized(problem) => problem.disposition(ProblemScope::Account),
            Self::Request(error) => error.disposition(ProblemScope::Account),
        }
    }

    /// Whether a client with the account key closed the account. Another key can be registered
    /// then. An account that the CA closed (`revoked`) is another case.
    #[must_use]
    pub fn is_deactivated(&self) -> bool {
        match self {
            Self::Closed { status, .. } => *status == AccountStatus::Deactivated,
            // The texts of Boulder and Pebble.
            Self::Unauthorized(problem) => problem.detail.contains("deactivated"),
            Self::NotRegistered
            | Self::BindingRequired
            | Self::NoKeyChange
            | Self::KeyInUse { .. }
            | Self::Request(_) => false,
        }
    }

    /// The problem document of the CA, if it sent one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Unauthorized(problem) => Some(problem),
            Self::Request(error) => error.problem(),
            Self::NotRegistered
            | Self::Closed { .. }
            | Self::BindingRequired
            | Self::NoKeyChange
            | Self::KeyInUse { .. } => None,
        }
    }
}

/// Finds the account of `key`, and creates none (section 7.3.1).
///
/// # Errors
/// [`AccountError::NotRegistered`] where there is none; else see [`AccountError`].
pub async fn find(
    client: &Arc<Client>,
    key: &AccountKey,
) -> Result<RegisteredAccount, AccountError> {
    let payload = NewAccount { only_return_existing: true, ..NewAccount::default() };
    let found = new_account(client, key, &payload).await;
    found.map_err(|error| match error.problem().map(Problem::word) {
        // Some CAs require the binding before they check whether the account exists.
        Some("externalAccountRequired") => AccountError::NotRegistered,
        _ => error,
    })
}

/// Finds the account of `key`, or creates it and agrees to the CA's terms of service. *Idempotent*:
/// a key has one account. An existing account keeps its contact, see [`Account::set_contact`].
///
/// The binding is only sent for a new account: CAs refuse one that was used before.
///
/// # Errors
/// See [`AccountError`].
pub async fn register(
    client: &Arc<Client>,
    key: &AccountKey,
    email: Option<&str>,
    binding: Option<&Binding>,
) -> Result<RegisteredAccount, AccountError> {
    let directory = client.directory().await?;
    let required = directory.meta.external_account_required;
    if required || binding.is_some() {
        match find(client, key).await {
            Err(AccountError::NotRegistered) => {}
            other => return other,
        }
    }
    if required && binding.is_none() {
        return Err(AccountError::BindingRequired);
    }
    let bind = |binding: &Binding| binding.bind(key, &directory.new_account);
    let payload = NewAccount {
        contact: contact(email),
        external_account_binding: binding.map(bind).transpose().map_err(RequestError::from)?,
        ..NewAccount::default()
    };
    new_account(client, key, &payload).await
}

async fn new_account(
    client: &Arc<Client>,
    key: &AccountKey,
    payload: &NewAccount,
) -> Result<RegisteredAccount, AccountError> {
    let url = client.directory().await?.new_account.clone();
    let outcome = client.post(key, Signer::Key, &url, &json(payload)).await;
    let reply = outcome.map_err(|error| account_error(client, error))?;
    let url = reply.location()?.to_owned();
    let registration: Registration = reply.json()?;
    match registration.status {
        status @ (AccountStatus::Deactivated | AccountStatus::Revoked) => {
            Err(AccountError::Closed { url, status })
        }
        AccountStatus::Valid | AccountStatus::Unknown => Ok(RegisteredAccount {
            account: Account::known(Arc::clone(client), key.clone(), url),
            registration,
            is_new: reply.created,
        }),
    }
}

/// Maps a refusal by the CA to an error of the account.
fn account_error(client: &Client, error: RequestError) -> AccountError {
    let RequestError::Problem(problem) = error else { return error.into() };
    match problem.word() {
        "accountDoesNotExist" => AccountError::NotRegistered,
        "unauthorized" => AccountError::Unauthorized(problem),
        _ => {
            if problem.is_gone() {
                client.forget_directory();
            }
            RequestError::Problem(problem).into()
        }
    }
}

impl Account {
    /// An account that [`register`] returned before, by its URL. Sends no request.
    #[must_use]
    pub fn known(client: Arc<Client>, key: AccountKey, url: impl Into<String>) -> Self {
        Self { client, key, url: url.into() }
    }

    /// The URL that identifies the account.
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

    /// Sets the address that the CA sends mail to (section 7.3.2). *Idempotent*.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn set_contact(&self, email: &str) -> Result<Registration, AccountError> {
        let payload = Contact { contact: contact(Some(email)) };
        let outcome = self.post(&self.url, &payload).await;
        Ok(outcome.map_err(|error| account_error(&self.client, error))?.json()?)
    }

    /// Deactivates the account permanently (section 7.3.6). Its key cannot be used again.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn deactivate(self) -> Result<(), AccountError> {
        let payload = Deactivation { status: "deactivated" };
        let outcome = self.post(&self.url, &payload).await;
        outcome.map(drop).map_err(|error| account_error(&self.client, error))
    }

    /// POST signed by the account.
    pub(crate) async fn post(
        &self,
        url: &str,
        payload: &impl Serialize,
    ) -> Result<Reply, RequestError> {
        self.client.post(&self.key, Signer::Account(&self.url), url, &json(payload)).await
    }

    /// POST-as-GET signed by the account (section 6.3).
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
    #[serde(skip_serializing_if = "Option::is_none")]
    external_account_binding: Option<Flattened>,
}

/// Agrees to the terms: the user that configures a CA agrees to them.
impl Default for NewAccount {
    fn default() -> Self {
        Self {
            terms_of_service_agreed: true,
            contact: Vec::new(),
            only_return_existing: false,
            external_account_binding: None,
        }
    }
}

#[derive(Serialize)]
struct Contact {
    contact: Vec<String>,
}

#[derive(Serialize)]
struct Deactivation {
    status: &'static str,
}

fn contact(email: Option<&str>) -> Vec<String> {
    email.map(|address| format!("mailto:{address}")).into_iter().collect()
}

/// Our own payloads have string keys and no parts that can fail, so the default is never used.
fn json(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).unwrap_or_default()
}

#[cfg(test)]
mod tests;
