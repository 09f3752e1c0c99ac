//! Accounts (RFC 8555 section 7.3): registering a key, and speaking for it afterwards; [`binding`] ties
//! a new one to an account elsewhere, [`rollover`] changes the key of one.
//!
//! Not here: keeping the key. Store it before you [`register`] it, or a crash in between loses the
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
    issue::Disposition,
};

/// An account at a CA. Cheap to clone; prints its URL only.
#[derive(Clone)]
pub struct Account {
    client: Arc<Client>,
    key: AccountKey,
    url: String,
}

/// An account that the CA has, and what it says of it.
#[derive(Clone, Debug)]
pub struct Enrolled {
    /// To speak for it.
    pub account: Account,
    /// What the CA says of it.
    pub registration: Registration,
    /// Whether there was none for this key before.
    pub is_new: bool,
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
    /// The CA does not talk to whoever has this key. So do some where an account is closed.
    #[error("{0}; if the account was deactivated, use another account key")]
    Barred(Box<Problem>),
    /// The CA registers nobody whom its operator does not know.
    #[error("the CA demands an external account binding, and none is given")]
    BindingRequired,
    /// The CA has no way to change a key.
    #[error("the CA does not change keys of accounts")]
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
    /// Who must do what before another try can succeed.
    #[must_use]
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::NotRegistered
            | Self::Closed { .. }
            | Self::BindingRequired
            | Self::NoKeyChange
            | Self::KeyInUse { .. } => Disposition::FixIssuer,
            Self::Barred(problem) => problem.disposition(ProblemScope::Account),
            Self::Request(error) => error.disposition(ProblemScope::Account),
        }
    }

    /// Whether the account was closed by somebody who had its key: nobody is barred who comes with
    /// another one. What the CA itself closed (`revoked`) is another matter.
    #[must_use]
    pub fn is_deactivated(&self) -> bool {
        match self {
            Self::Closed { status, .. } => *status == AccountStatus::Deactivated,
            // Boulder's words, and Pebble's.
            Self::Barred(problem) => problem.detail.contains("deactivated"),
            Self::NotRegistered
            | Self::BindingRequired
            | Self::NoKeyChange
            | Self::KeyInUse { .. }
            | Self::Request(_) => false,
        }
    }

    /// The CA's own words, where it said any.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Barred(problem) => Some(problem),
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
pub async fn find(client: &Arc<Client>, key: &AccountKey) -> Result<Enrolled, AccountError> {
    let payload = NewAccount { only_return_existing: true, ..NewAccount::default() };
    let found = new_account(client, key, &payload).await;
    found.map_err(|error| match error.problem().map(Problem::word) {
        // Some ask for the binding before they look whether it is needed.
        Some("externalAccountRequired") => AccountError::NotRegistered,
        _ => error,
    })
}

/// Finds the account of `key`, or creates it, which agrees to the CA's terms of service. *Idempotent*:
/// a key has one account. An existing account keeps its contact, see [`Account::set_contact`].
///
/// The binding is used where there is no account yet only: CAs refuse one that was used before.
///
/// # Errors
/// See [`AccountError`].
pub async fn register(
    client: &Arc<Client>,
    key: &AccountKey,
    email: Option<&str>,
    binding: Option<&Binding>,
) -> Result<Enrolled, AccountError> {
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
) -> Result<Enrolled, AccountError> {
    let url = client.directory().await?.new_account.clone();
    let outcome = client.post(key, Signer::Key, &url, &json(payload)).await;
    let reply = outcome.map_err(|error| refused(client, error))?;
    let url = reply.location()?.to_owned();
    let registration: Registration = reply.json()?;
    match registration.status {
        status @ (AccountStatus::Deactivated | AccountStatus::Revoked) => {
            Err(AccountError::Closed { url, status })
        }
        AccountStatus::Valid | AccountStatus::Unknown => Ok(Enrolled {
            account: Account::known(Arc::clone(client), key.clone(), url),
            registration,
            is_new: reply.created,
        }),
    }
}

/// What a refusal means for the account.
fn refused(client: &Client, error: RequestError) -> AccountError {
    let RequestError::Problem(problem) = error else { return error.into() };
    match problem.word() {
        "accountDoesNotExist" => AccountError::NotRegistered,
        "unauthorized" => AccountError::Barred(problem),
        _ => {
            if problem.is_gone() {
                client.forget_directory();
            }
            RequestError::Problem(problem).into()
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

    /// Tells the CA whom to write to (section 7.3.2). *Idempotent*.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn set_contact(&self, email: &str) -> Result<Registration, AccountError> {
        let payload = Contact { contact: contact(Some(email)) };
        let outcome = self.post(&self.url, &payload).await;
        Ok(outcome.map_err(|error| refused(&self.client, error))?.json()?)
    }

    /// Closes the account for good (section 7.3.6): its key is worth nothing from then on.
    ///
    /// # Errors
    /// See [`AccountError`].
    pub async fn deactivate(self) -> Result<(), AccountError> {
        let payload = Deactivation { status: "deactivated" };
        let outcome = self.post(&self.url, &payload).await;
        outcome.map(drop).map_err(|error| refused(&self.client, error))
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
    #[serde(skip_serializing_if = "Option::is_none")]
    external_account_binding: Option<Flattened>,
}

/// Agrees to the terms: whoever configures a CA does.
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

/// Our own payloads have string keys and no failing parts, so this never falls back.
fn json(payload: &impl Serialize) -> String {
    serde_json::to_string(payload).unwrap_or_default()
}

#[cfg(test)]
mod tests;
