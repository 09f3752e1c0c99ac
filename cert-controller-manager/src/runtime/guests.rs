//! How many passes wait for servers of tenants. Such a server may take its time with every answer, and
//! a pass that waits for it is one that nobody else has.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Who finds no room looks again after this.
pub const LATER: Duration = Duration::from_secs(1);

/// See the [module](self).
#[derive(Debug)]
pub struct Guests {
    most: usize,
    most_each: usize,
    inside: Mutex<HashMap<String, usize>>,
}

/// One pass. Makes room when it is dropped.
#[derive(Debug)]
pub struct Guest<'a> {
    guests: &'a Guests,
    tenant: Option<String>,
}

impl Guests {
    /// Room for so many, and for so many of each tenant.
    #[must_use]
    pub fn new(most: usize, most_each: usize) -> Self {
        Self { most, most_each, inside: Mutex::default() }
    }

    /// Room for a pass of `tenant`, if there is any. For one of nobody's there always is.
    pub fn enter(&self, tenant: Option<&str>) -> Option<Guest<'_>> {
        let Some(tenant) = tenant else { return Some(Guest { guests: self, tenant: None }) };
        let mut inside = self.lock();
        let own = inside.get(tenant).copied().unwrap_or_default();
        if own >= self.most_each || inside.values().sum::<usize>() >= self.most {
            return None;
        }
        inside.insert(tenant.to_owned(), own + 1);
        Some(Guest { guests: self, tenant: Some(tenant.to_owned()) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let Some(tenant) = &self.tenant else { return };
        let mut inside = self.guests.lock();
        if let Some(own) = inside.get_mut(tenant) {
            *own -= 1;
        }
        inside.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_some_of_each_and_who_leaves_makes_room() {
        let guests = Guests::new(3, 2);
        let first = guests.enter(Some("a")).unwrap();
        let _second = guests.enter(Some("a")).unwrap();
        assert!(guests.enter(Some("a")).is_none(), "it has its share");
        let _third = guests.enter(Some("b")).unwrap();
        assert!(guests.enter(Some("c")).is_none(), "all room is taken");
        assert!(guests.enter(None).is_some(), "we are no guests");
        drop(first);
        assert!(guests.enter(Some("c")).is_some());
        assert!(guests.enter(Some("a")).is_some());
    }
}
