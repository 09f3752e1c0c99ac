//! Deactivation of authorizations (RFC 8555 section 7.5.2).
//!
//! Of those that are pending when their order ends, because CAs limit how many there may be, and of
//! those that were used, where the issuer shall prove control again for each order. Best effort: a CA
//! that does not answer is not asked again, and nothing is fetched only to find out what could be
//! deactivated. An authorization that another running order of this issuer has, too, stays, as CAs
//! share them between orders. Orders of other processes with the same account are not known here:
//! their authorization is reported as deactivated, and they are placed again.

use futures::{StreamExt, future, stream};
use serde_json::json;

use super::issuer::AcmeIssuer;
use crate::{
    acme::order::{View, is_open},
    solve::Owner,
};

impl AcmeIssuer {
    /// The order has its certificate.
    pub(super) async fn used_up(&self, owner: &Owner, order: &str) {
        if !self.options.deactivate_authorizations {
            self.in_use.release(owner, order);
            return;
        }
        // Under the same semaphore as new orders: the CA must not give one of them to a new order now.
        let _turn = self.placing.acquire().await;
        let mine = self.in_use.release(owner, order);
        self.deactivate(mine.into_iter().collect()).await;
    }

    /// The order failed or is not wanted any more. Deactivates what is known to be pending, unless the
    /// authorizations `are_gone`.
    pub(super) async fn unused(&self, owner: &Owner, order: &str, view: &View, are_gone: bool) {
        let open: Vec<&str> = view
            .authorizations
            .iter()
            .flatten()
            .filter(|one| is_open(one))
            .map(|one| one.url.as_str())
            .collect();
        if are_gone || open.is_empty() {
            self.in_use.release(owner, order);
            return;
        }
        let _turn = self.placing.acquire().await;
        let mine = self.in_use.release(owner, order);
        let mine = open.into_iter().filter(|url| mine.contains(*url)).map(str::to_owned);
        self.deactivate(mine.collect()).await;
    }

    /// Where the first fails, the rest are not tried.
    async fn deactivate(&self, urls: Vec<String>) {
        let payload = json!({"status": "deactivated"});
        let Some((first, rest)) = urls.split_first() else { return };
        if let Err(error) = self.account.post(first, &payload).await {
            tracing::debug!(%error, "an authorization could not be deactivated");
            return;
        }
        let posts: Vec<_> = rest.iter().map(|url| self.account.post(url, &payload)).collect();
        stream::iter(posts).buffer_unordered(AT_ONCE).for_each(|_| future::ready(())).await;
    }
}

/// See `steps`.
const AT_ONCE: usize = 8;
