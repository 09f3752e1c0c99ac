//! Bounded lists of objects of tenants: metadata only, in small pages.

use kube::{api::ListParams, core::PartialObjectMeta};

use super::store::Store;

/// Objects in a page. Labels and annotations of one object can have 1.5 MB.
const PAGE: u32 = 10;

/// Lists the metadata of objects with these labels. Returns the first `most` results of `pick`.
///
/// # Errors
/// When a page cannot be read.
pub async fn select<K, T>(
    api: &dyn Store<K>,
    labels: &str,
    most: usize,
    mut pick: impl FnMut(PartialObjectMeta<K>) -> Option<T>,
) -> kube::Result<Vec<T>>
where
    K: Clone,
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
