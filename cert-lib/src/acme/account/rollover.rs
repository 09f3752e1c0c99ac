//! Changing the key of an account (RFC 8555 section 7.3.5), so that it can be interrupted anywhere.
//!
//! Whoever calls this has stored *both* keys, so that none is lost; stores the answer; and calls again
//! with the same two keys when there was none. The CA is asked which of them it knows before anything
//! is done.

use std::sync::Arc;

use serde::Serialize;

use super::{Account, AccountError, Enrolled, find, json};
use crate::acme::{
    client::{Client, RequestError},
    jws::{self, AccountKey, Jwk, Signer},
};

/// What came of a change.
#[derive(Debug)]
pub enum Rollover {
    /// The account has the new key, and the old one is worth nothing.
    Changed(Account),
    /// The CA refused, and the account has the old key still. The new one can be thrown away.
    Refused(AccountError),
}

/// Makes `next` the key of the account whose key is `current`. *Idempotent*: also when the CA did it
/// before and its answer was lost. `known` is the URL of the account, where it is remembered.
///
/// # Errors
/// Where it is not known what the CA has done: call again with the same keys.
/// [`AccountError::NotRegistered`] says that the CA knows neither key: register `current` first.
pub async fn roll_over(
    client: &Arc<Client>,
    current: &AccountKey,
    next: &AccountKey,
    known: Option<&str>,
) -> Result<Rollover, AccountError> {
    match find(client, next).await {
        Ok(found) => return settle(client, current, found, known).await,
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
    // Something on the way may have refused after the CA had acted.
    match find(client, next).await {
        Ok(found) => settle(client, current, found, Some(account.url())).await,
        Err(AccountError::NotRegistered) if may_pass(&refusal) => Err(refusal),
        Err(AccountError::NotRegistered) => Ok(Rollover::Refused(refusal)),
        Err(error) => Err(error),
    }
}

/// Whether another try may go better: what stands before a CA says 4xx, too, and some mean later.
fn may_pass(refusal: &AccountError) -> bool {
    let AccountError::Request(error) = refusal else { return false };
    error.problem().is_none_or(|problem| {
        matches!(problem.status, Some(408 | 425 | 429))
            || matches!(problem.word(), "" | "rateLimited")
            || problem.retry_after.is_some()
    })
}

/// The CA knows the new key; but is it for the account that is meant?
async fn settle(
    client: &Arc<Client>,
    current: &AccountKey,
    found: Enrolled,
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

/// Whether the CA itself said no, and not only that it cannot now.
fn is_final(error: &AccountError) -> bool {
    match error {
        AccountError::Request(error) => error.problem().is_some_and(|problem| {
            matches!(problem.status, Some(400..=499)) && !problem.is_bad_nonce()
        }),
        AccountError::NotRegistered => false,
        AccountError::Closed { .. }
        | AccountError::Barred(_)
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
