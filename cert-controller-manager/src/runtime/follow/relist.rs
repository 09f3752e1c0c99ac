//! Asking watches for new lists, and waiting for them.

use tokio::sync::watch::{self, Receiver, Sender};

/// Asks all watches that it was given to for a new list: what one that has just become leader
/// knows from a watch may be older than what the leader before it wrote. Clones ask the same watches.
#[derive(Clone, Debug, Default)]
pub struct Relist(Sender<u64>);

/// One watch's end: hears that a list is wanted, says that it was made.
#[derive(Debug)]
pub struct Lister {
    wanted: Receiver<u64>,
    made: Sender<u64>,
}

/// What is known about the lists of one watch.
#[derive(Clone, Debug)]
pub struct Listing(Receiver<u64>);

impl Relist {
    /// Both ends for one watch: the first is for [`follow`](super::follow()).
    #[must_use]
    pub fn watch(&self) -> (Lister, Listing) {
        let (made, listing) = watch::channel(NEVER);
        (Lister { wanted: self.0.subscribe(), made }, Listing(listing))
    }

    /// Wants a list of everything that begins after now. Returns the number of this wish, for
    /// [`Listing::since`].
    pub fn signal(&self) -> u64 {
        let mut number = 0;
        self.0.send_modify(|known| {
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
}

impl Lister {
    /// For a watch that nobody ever asks for a new list.
    #[must_use]
    pub fn unasked() -> Self {
        Relist::default().watch().0
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

    /// The half that tells.
    pub(super) fn teller(&self) -> Sender<u64> {
        self.made.clone()
    }
}

/// No list was made yet.
const NEVER: u64 = u64::MAX;
