//! Changes the key of an account (RFC 8555 section 7.3.5). The change can be interrupted at any
//! point.
//!
//! The caller stores *both* keys before the call and the result after it. After an interruption it
//! calls again with the same two keys. Each call first asks the CA which of the keys it knows.

use std::sync::Arc;

use serde::Serialize;

use super::{Account, AccountError, RegisteredAccount, find, json};
use crate::acme::{
    client::{Client, RequestError},
    jws::{self, AccountKey, Jwk, Signer},
};

/// Result of a key change.
#[derive(Debug)]
pub enum Rollover {
    /// The account has the new key; the old key is invalid.
    Changed(Account),
    /// The CA refused, and the account still has the old key. The new key can be discarded.
    Refused(AccountError),
}

/// Makes `next` the key of the account whose key is `current`. *Idempotent*: also when the CA
/// changed the key before and its answer was lost. `known` is the URL of the account, if it is
/// stored.
///
/// # Errors
/// When the state at the CA is unknown: call again with the same keys.
/// [`AccountError::NotRegistered`]: the CA knows neither key; register `current` first.
pub async fn roll_over(
    client: &Arc<Client>,
    current: &AccountKey,
    next: &AccountKey,
    known: Option<&str>,
) -> Result<Rollover, AccountError> {
    match find(client, next).await {
        Ok(found) => return confirm_account(client, current, found, known).await,
        Err(AccountError::NotRegistered) => {}
        Err(error) => return Err(error),
    }
    let account = find(client, current).await?.account;
    let Err(refusal) = account.change_key(next).await else {
        let account = Account::known(Arc::clone(client), next.clone(), account.url());
        return Ok(Rollover::Changed(account));
    };
    if !is_final(&refusal) {
        return Err(refusal);
    }
    // A proxy may have refused after the CA had acted.
    match find(client, next).await {
        Ok(found) => confirm_account(client, current, found, Some(account.url())).await,
        Err(AccountError::NotRegistered) if is_temporary(&refusal) => Err(refusal),
        Err(AccountError::NotRegistered) => Ok(Rollover::Refused(refusal)),
        Err(error) => Err(error),
    }
}

/// Whether a retry may succeed: a proxy before the CA answers with 4xx, too, and some of these are
/// temporary.
fn is_temporary(refusal: &AccountError) -> bool {
    let AccountError::Request(error) = refusal else { return false };
    error.problem().is_none_or(|problem| {
        matches!(problem.status, Some(408 | 425 | 429))
            || matches!(problem.word(), "" | "rateLimited")
            || problem.retry_after.is_some()
    })
}

/// The CA knows the new key. Checks that it belongs to the expected account.
async fn confirm_account(
    client: &Arc<Client>,
    current: &AccountKey,
    found: RegisteredAccount,
    known: Option<&str>,
) -> Result<Rollover, AccountError> {
    if known.is_none_or(|known| known == found.account.url()) {
        return Ok(Rollover::Changed(found.account));
    }
    match find(client, current).await {
        Ok(_) => {
            let url = found.account.url().to_owned();
            Ok(Rollover::Refused(AccountError::KeyInUse { url }))
        }
        Err(AccountError::NotRegistered) => Ok(Rollover::Changed(found.account)),
        Err(error) => Err(error),
    }
}

/// Whether the CA itself refused, and not only for now.
fn is_final(error: &AccountError) -> bool {
    match error {
        AccountError::Request(error) => error.problem().is_some_and(|problem| {
            matches!(problem.status, Some(400..=499)) && !problem.is_bad_nonce()
        }),
        AccountError::NotRegistered => false,
        AccountError::Closed { .. }
        | AccountError::Unauthorized(_)
        | AccountError::BindingRequired
        | AccountError::NoKeyChange
        | AccountError::KeyInUse { .. } => true,
    }
}

impl Account {
    /// Asks the CA to take `next` for the key of this account.
    async fn change_key(&self, next: &AccountKey) -> Result<(), AccountError> {
        let directory = self.client.directory().await?;
        let url = directory.key_change.as_deref().ok_or(AccountError::NoKeyChange)?;
        let payload = json(&KeyChange { account: &self.url, old_key: self.key.jwk() });
        let inner = jws::sign_inner(next, url, &payload).map_err(RequestError::from)?;
        let signer = Signer::Account(&self.url);
        self.client.post(&self.key, signer, url, &json(&inner)).await?;
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyChange<'a> {
    account: &'a str,
    old_key: &'a Jwk,
}

#[cfg(test)]
mod tests;
