//! Lists of what tenants write: metadata only, in small pages, up to a number.

use kube::{Api, Resource, api::ListParams, core::PartialObjectMeta};
use serde::de::DeserializeOwned;

/// Labels and annotations of one object can be 1.5 MB: a page of ten hostile ones is in memory at once.
const PAGE: u32 = 10;

/// What `pick` makes of the metadata of the objects with these labels: the first `most` of them.
///
/// # Errors
/// When a page could not be read.
pub async fn select<K, T>(
    api: &Api<K>,
    labels: &str,
    most: usize,
    mut pick: impl FnMut(PartialObjectMeta<K>) -> Option<T>,
) -> kube::Result<Vec<T>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = ListParams::default().labels(labels).limit(PAGE);
    let mut picked = Vec::new();
    loop {
        let page = api.list_metadata(&params).await?;
        let left = most.saturating_sub(picked.len());
        picked.extend(page.items.into_iter().filter_map(&mut pick).take(left));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) if picked.len() < most => params = params.continue_token(&token),
            Some(_) | None => return Ok(picked),
        }
    }
}
