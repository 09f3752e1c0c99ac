//! Requests new lists from watches, and waits for them.

use std::sync::Arc;

use tokio::sync::{
    Semaphore,
    watch::{self, Receiver, Sender},
};

use super::pages::Pages;

/// Requests new lists from all its watches. A new leader needs them, because its caches may be older
/// than the last writes of the previous leader. Clones share the watches.
#[derive(Clone, Debug)]
pub struct Relist {
    requested: Sender<u64>,
    /// Watches list concurrently, but decode one page at a time.
    decoding: Arc<Semaphore>,
}

impl Default for Relist {
    fn default() -> Self {
        Self { requested: Sender::default(), decoding: Arc::new(Semaphore::new(1)) }
    }
}

/// The end of the watch: receives requests and reports completed lists.
#[derive(Clone, Debug)]
pub struct Lister {
    requested: Receiver<u64>,
    completed: Sender<u64>,
    decoding: Arc<Semaphore>,
}

/// Observes the completed lists of one watch.
#[derive(Clone, Debug)]
pub struct Listing(Receiver<u64>);

impl Relist {
    /// Creates both ends for one watch. The first one is for [`watch`](super::watch()).
    #[must_use]
    pub fn watch(&self) -> (Lister, Listing) {
        let (completed, listing) = watch::channel(NEVER);
        let (requested, decoding) = (self.requested.subscribe(), self.decoding.clone());
        (Lister { requested, completed, decoding }, Listing(listing))
    }

    /// Requests lists that begin after this call. Returns the number of the request, for
    /// [`Listing::wait_since`].
    pub fn request(&self) -> u64 {
        let mut number = 0;
        self.requested.send_modify(|known| {
            *known += 1;
            number = *known;
        });
        number
    }
}

impl Listing {
    /// Waits until a list is complete that began after this request; 0 means the first list. An absent or
    /// denied kind counts as listed. An unreachable cluster does not.
    pub async fn wait_since(&mut self, number: u64) {
        let completed = |completed: &u64| *completed != NEVER && *completed >= number;
        if self.0.wait_for(completed).await.is_err() {
            // The watch has ended, and the failure of its task ends the process.
            std::future::pending::<()>().await;
        }
    }

    /// Whether [`Self::wait_since`] would return at once.
    #[must_use]
    pub fn is_listed_since(&self, number: u64) -> bool {
        let completed = *self.0.borrow();
        completed != NEVER && completed >= number
    }

    /// Waits until the next list is complete.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a list was completed since the last call.
    pub fn take_change(&mut self) -> bool {
        let changed = self.0.has_changed().unwrap_or_default();
        self.0.mark_unchanged();
        changed
    }
}

impl Lister {
    /// For a watch without relist requests.
    #[must_use]
    pub fn detached() -> Self {
        Relist::default().watch().0
    }

    /// The pages of its lists.
    pub(super) fn pages(&self) -> Arc<Pages> {
        Pages::new(self.decoding.clone())
    }

    /// The number of the last request, which becomes seen.
    pub(super) fn latest_request(&mut self) -> u64 {
        *self.requested.borrow_and_update()
    }

    /// Waits for the next request.
    pub(super) async fn requested(&mut self) {
        if self.requested.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Reports a complete list for this request.
    pub fn complete(&self, number: u64) {
        self.completed.send_replace(number);
    }

    /// The sender of completed requests.
    pub(super) fn completed(&self) -> Sender<u64> {
        self.completed.clone()
    }
}

/// No list is complete yet.
const NEVER: u64 = u64::MAX;
