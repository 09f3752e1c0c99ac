//! The authorizations that running orders need.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::solve::Owner;

/// Which authorizations the running orders have, by the owner of the order and its URL: a CA may
/// return the same order to two owners with the same names.
#[derive(Debug, Default)]
pub(super) struct InUse(Mutex<BTreeMap<Holder, BTreeSet<String>>>);

type Holder = (String, String);

impl InUse {
    /// The order runs.
    pub(super) fn hold(&self, owner: &Owner, order: &str, authorizations: &[String]) {
        let urls = || authorizations.iter().cloned().collect();
        self.lock().entry(holder(owner, order)).or_insert_with(urls);
    }

    /// The order is over. Returns its authorizations that no other order has, the first time.
    pub(super) fn release(&self, owner: &Owner, order: &str) -> BTreeSet<String> {
        let mut all = self.lock();
        let Some(mut mine) = all.remove(&holder(owner, order)) else { return BTreeSet::new() };
        mine.retain(|url| !all.values().any(|others| others.contains(url)));
        mine
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Holder, BTreeSet<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn holder(owner: &Owner, order: &str) -> Holder {
    (owner.0.clone(), order.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorization_of_another_order_is_not_deactivated() {
        let urls = |all: &[&str]| all.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>();
        let in_use = InUse::default();
        let (a, b) = (Owner("a".to_owned()), Owner("b".to_owned()));
        in_use.hold(&a, "order/1", &urls(&["a", "b"]));
        in_use.hold(&a, "order/2", &urls(&["b", "c"]));
        assert_eq!(in_use.release(&a, "order/1"), urls(&["a"]).into_iter().collect());
        assert_eq!(in_use.release(&a, "order/1"), BTreeSet::new(), "once is enough");
        // The CA returned the same order to another owner.
        in_use.hold(&b, "order/2", &urls(&["b", "c"]));
        assert_eq!(in_use.release(&a, "order/2"), BTreeSet::new());
        assert_eq!(in_use.release(&b, "order/2"), urls(&["b", "c"]).into_iter().collect());
    }
}
