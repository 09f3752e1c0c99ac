//! Asking watches for new lists, and waiting for them.

use std::sync::Arc;

use tokio::sync::{
    Semaphore,
    watch::{self, Receiver, Sender},
};

use super::pages::Pages;

/// Asks all watches that it was given to for a new list: what one that has just become leader
/// knows from a watch may be older than what the leader before it wrote. Clones ask the same watches.
#[derive(Clone, Debug)]
pub struct Relist {
    wanted: Sender<u64>,
    /// All of them list at the same time, and their pages are decoded one after the other.
    decoding: Arc<Semaphore>,
}

impl Default for Relist {
    fn default() -> Self {
        Self { wanted: Sender::default(), decoding: Arc::new(Semaphore::new(1)) }
    }
}

/// One watch's end: hears that a list is wanted, says that it was made.
#[derive(Clone, Debug)]
pub struct Lister {
    wanted: Receiver<u64>,
    made: Sender<u64>,
    decoding: Arc<Semaphore>,
}

/// What is known about the lists of one watch.
#[derive(Clone, Debug)]
pub struct Listing(Receiver<u64>);

impl Relist {
    /// Both ends for one watch: the first is for [`follow`](super::follow()).
    #[must_use]
    pub fn watch(&self) -> (Lister, Listing) {
        let (made, listing) = watch::channel(NEVER);
        let (wanted, decoding) = (self.wanted.subscribe(), self.decoding.clone());
        (Lister { wanted, made, decoding }, Listing(listing))
    }

    /// Wants a list of everything that begins after now. Returns the number of this wish, for
    /// [`Listing::since`].
    pub fn signal(&self) -> u64 {
        let mut number = 0;
        self.wanted.send_modify(|known| {
            *known += 1;
            number = *known;
        });
        number
    }
}

impl Listing {
    /// Waits until all that there was after the wish of this number is told; 0 is the first list. That
    /// is also the case when the kind turned out to be absent or denied. A cluster that is away is
    /// waited for.
    pub async fn since(&mut self, number: u64) {
        let made = |made: &u64| *made != NEVER && *made >= number;
        if self.0.wait_for(made).await.is_err() {
            // The watch has ended, so nobody will tell. The task that ran it is missed elsewhere.
            std::future::pending::<()>().await;
        }
    }

    /// Whether [`Self::since`] would return at once.
    #[must_use]
    pub fn is_since(&self, number: u64) -> bool {
        let made = *self.0.borrow();
        made != NEVER && made >= number
    }

    /// Waits until a list is made.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether a list was made since the last call.
    pub fn take_change(&mut self) -> bool {
        let changed = self.0.has_changed().unwrap_or_default();
        self.0.mark_unchanged();
        changed
    }
}

impl Lister {
    /// For a watch that nobody ever asks for a new list.
    #[must_use]
    pub fn unasked() -> Self {
        Relist::default().watch().0
    }

    /// How its lists are read.
    pub(super) fn pages(&self) -> Arc<Pages> {
        Pages::new(self.decoding.clone())
    }

    /// The last wish. From now on only later ones are heard.
    pub(super) fn hear(&mut self) -> u64 {
        *self.wanted.borrow_and_update()
    }

    /// Waits for the next wish.
    pub(super) async fn asked(&mut self) {
        if self.wanted.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says that the list was made that was wanted by the wish of this number.
    pub fn tell(&self, number: u64) {
        self.made.send_replace(number);
    }

    /// The half that tells.
    pub(super) fn teller(&self) -> Sender<u64> {
        self.made.clone()
    }
}

/// No list was made yet.
const NEVER: u64 = u64::MAX;
