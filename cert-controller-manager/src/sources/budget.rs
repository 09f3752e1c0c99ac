//! Memory limit of the index for each namespace, so that one tenant cannot exhaust the memory of
//! the process. Pure.
//!
//! An item that exceeds the limit waits until its namespace has room; other namespaces have no
//! influence.

use std::collections::{BTreeMap, HashMap};

use tokio::time::Instant;

use super::key::{RouteKey, SourceKey};

/// Bytes for each namespace. 10,000 Ingresses with five hosts of 40 characters take a third, and
/// 10,000 routes with three hosts take another third.
pub const PER_NAMESPACE: usize = 32 << 20;

/// The message for objects that exceed the limit.
#[must_use]
pub fn no_room() -> String {
    let most = PER_NAMESPACE >> 20;
    format!("its namespace takes more than {most} MiB of memory: it is read when there is room")
}

/// An item of the index. The order matters: routes come last.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Item {
    /// A source object.
    Object(SourceKey),
    /// A route.
    Route(RouteKey),
}

impl Item {
    /// The namespace of the item.
    #[must_use]
    pub fn namespace(&self) -> &str {
        match self {
            Self::Object(key) => &key.object.namespace,
            Self::Route((_, key)) => &key.namespace,
        }
    }
}

/// Identifies one version of a waiting item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket(u64);

/// See the [module](self).
#[derive(Debug)]
pub struct Budget {
    most: usize,
    namespaces: HashMap<String, Share>,
    tickets: u64,
}

/// Usage of one namespace.
#[derive(Debug, Default)]
struct Share {
    used: usize,
    waiting: BTreeMap<Item, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    size: usize,
    ticket: Ticket,
    /// Set after a failed read.
    not_before: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(PER_NAMESPACE)
    }
}

impl Budget {
    /// A limit of `most` bytes for each namespace.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self { most, namespaces: HashMap::new(), tickets: 0 }
    }

    /// Changes the size of an item from `before` to `size` bytes. Returns whether the namespace has room;
    /// if not, the item is not counted and waits.
    pub fn replace(&mut self, item: &Item, before: usize, size: usize) -> bool {
        self.remove(item, before);
        if size == 0 {
            return true;
        }
        let share = self.namespaces.entry(item.namespace().to_owned()).or_default();
        let has_room = share.used + size <= self.most;
        if has_room {
            share.used += size;
        } else {
            self.tickets += 1;
            let ticket = Ticket(self.tickets);
            share.waiting.insert(item.clone(), Waiting { size, ticket, not_before: None });
        }
        has_room
    }

    /// Removes an item of `before` bytes.
    pub fn remove(&mut self, item: &Item, before: usize) {
        let Some(share) = self.namespaces.get_mut(item.namespace()) else { return };
        share.used = share.used.saturating_sub(before);
        share.waiting.remove(item);
        if share.used == 0 && share.waiting.is_empty() {
            self.namespaces.remove(item.namespace());
        }
    }

    /// A waiting item that fits and may be read `now`.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<(Item, Ticket)> {
        self.namespaces.keys().find_map(|namespace| self.next_of(namespace, now))
    }

    /// Like [`Self::next`], for one namespace.
    #[must_use]
    pub fn next_of(&self, namespace: &str, now: Instant) -> Option<(Item, Ticket)> {
        let share = self.namespaces.get(namespace)?;
        let left = self.most.saturating_sub(share.used);
        let may_be_read = |waiting: &Waiting| {
            waiting.size <= left && waiting.not_before.is_none_or(|time| time <= now)
        };
        let (item, waiting) = share.waiting.iter().find(|(_, it)| may_be_read(it))?;
        Some((item.clone(), waiting.ticket))
    }

    /// Delays an item that could not be read, so that it does not block the others.
    pub fn postpone(&mut self, item: &Item, ticket: Ticket, not_before: Instant) {
        let share = self.namespaces.get_mut(item.namespace());
        let waiting = share.and_then(|share| share.waiting.get_mut(item));
        if let Some(waiting) = waiting.filter(|waiting| waiting.ticket == ticket) {
            waiting.not_before = Some(not_before);
        }
    }

    /// Stops waiting for an item that cannot be read again.
    pub fn give_up(&mut self, item: &Item, ticket: Ticket) {
        if self.is_waiting(item, ticket) {
            self.remove(item, 0);
        }
    }

    /// Whether the namespace has waiting routes.
    #[must_use]
    pub fn has_waiting_routes(&self, namespace: &str) -> bool {
        let last = self.namespaces.get(namespace).and_then(|it| it.waiting.last_key_value());
        matches!(last, Some((Item::Route(_), _)))
    }

    /// Whether the item still waits in the version of the ticket.
    #[must_use]
    pub fn is_waiting(&self, item: &Item, ticket: Ticket) -> bool {
        let waiting = self.namespaces.get(item.namespace()).and_then(|it| it.waiting.get(item));
        waiting.is_some_and(|waiting| waiting.ticket == ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::ObjectKey, sources::key::Kind};

    fn item(namespace: &str, name: &str) -> Item {
        Item::Object(SourceKey { kind: Kind::Ingress, object: ObjectKey::new(namespace, name) })
    }

    fn next(budget: &Budget) -> Option<Item> {
        budget.next(Instant::now()).map(|(item, _)| item)
    }

    #[test]
    fn an_item_without_room_waits_until_its_namespace_has_room() {
        let mut budget = Budget::of(100);
        let [a, b, c] = ["a", "b", "c"].map(|name| item("ns", name));
        assert!(budget.replace(&a, 0, 60) && !budget.replace(&b, 0, 50));
        assert!(budget.replace(&c, 0, 40), "what is smaller has room");
        assert_eq!(next(&budget), None);
        budget.remove(&c, 40);
        assert_eq!(next(&budget), None, "40 are left, and 50 wait");
        assert!(budget.replace(&a, 60, 50));
        assert_eq!(next(&budget), Some(b.clone()));
        assert!(budget.replace(&b, 0, 50));
        assert_eq!(next(&budget), None);
    }

    #[test]
    fn a_namespace_does_not_use_the_room_of_others() {
        let mut budget = Budget::of(100);
        assert!(budget.replace(&item("ns", "a"), 0, 100));
        assert!(!budget.replace(&item("ns", "b"), 0, 1));
        assert!(budget.replace(&item("other", "a"), 0, 100));
        budget.remove(&item("other", "a"), 100);
        assert_eq!(next(&budget), None);
    }

    #[test]
    fn a_postponed_item_does_not_block_the_others() {
        let mut budget = Budget::of(100);
        let [a, b, c] = ["a", "b", "c"].map(|name| item("ns", name));
        assert!(budget.replace(&a, 0, 100) && !budget.replace(&b, 0, 10));
        assert!(!budget.replace(&c, 0, 10));
        budget.remove(&a, 100);
        let now = Instant::now();
        let (first, ticket) = budget.next(now).unwrap();
        assert_eq!(first, b);
        let later = now + std::time::Duration::from_secs(60);
        budget.postpone(&b, ticket, later);
        assert_eq!(budget.next(now).map(|(item, _)| item), Some(c.clone()));
        budget.remove(&c, 0);
        assert_eq!(budget.next(now), None);
        assert_eq!(budget.next(later).map(|(item, _)| item), Some(b));
    }

    #[test]
    fn a_ticket_ends_when_its_waiting_item_changes() {
        let mut budget = Budget::of(100);
        let a = item("ns", "a");
        assert!(!budget.replace(&a, 0, 200));
        assert_eq!(next(&budget), None, "nothing makes room for it");
        assert!(!budget.replace(&a, 0, 101));
        assert!(budget.replace(&item("ns", "b"), 0, 100) && !budget.replace(&a, 0, 100));
        budget.remove(&item("ns", "b"), 100);
        let (_, ticket) = budget.next(Instant::now()).unwrap();
        assert!(budget.is_waiting(&a, ticket));
        assert!(budget.replace(&item("ns", "b"), 0, 1) && !budget.replace(&a, 0, 100));
        assert!(!budget.is_waiting(&a, ticket));
        budget.remove(&a, 0);
        budget.remove(&item("ns", "b"), 1);
        assert!(budget.namespaces.is_empty());
    }
}
