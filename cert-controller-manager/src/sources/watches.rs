//! The watches of source kinds, routes and namespaces, and the state of their lists.
//!
//! Of each kind, the first served API version is watched. Kinds may appear and disappear at any time
//! without a restart.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, select_all},
};
use kube::Client;
use tokio::sync::watch;

use super::{
    handlers::{Namespaces, Objects, Routes},
    index::Index,
    key::Kind,
    kinds::WatchedKind,
    reread::reread,
    version_watch::{VersionWatch, Versions},
};
use crate::runtime::{
    clusters::of_metadata,
    watch::{Availability, Lister, Listing, Relist},
};

/// A watch of one API version of a kind.
pub struct Watch {
    /// Name for logs.
    pub kind: &'static str,
    /// Never returns; the caller runs it.
    pub run: BoxFuture<'static, Infallible>,
}

/// The watches of some kinds. A kind that cannot be listed delays only the kinds that depend on it.
pub struct Watches {
    known: Vec<Arc<Known>>,
}

/// The state of one kind.
struct Known {
    watched: WatchedKind,
    versions: Versions,
    /// One for each API version.
    lists: Vec<(Lister, Listing)>,
}

impl Watches {
    /// The watches that `kinds` need. `relist` requests new lists from them.
    #[must_use]
    pub fn new(kinds: &[Kind], relist: &Relist) -> Self {
        let mut watched: Vec<WatchedKind> = kinds.iter().flat_map(|kind| kind.needs()).collect();
        watched.sort();
        watched.dedup();
        let known = watched.into_iter().map(|watched| Arc::new(Known::new(watched, relist)));
        Self { known: known.collect() }
    }

    /// Whether all kinds that `kind` depends on were listed after this relist request.
    #[must_use]
    pub fn known(&self, kind: Kind, since: u64) -> bool {
        kind.needs().into_iter().all(|needed| {
            let known = self.known.iter().find(|known| known.watched == needed);
            known.is_some_and(|known| known.check(since).is_ok())
        })
    }

    /// Readiness checks: one for each watched kind, with a relist request as argument.
    pub fn checks(
        &self,
    ) -> impl Iterator<Item = (String, impl Fn(u64) -> Result<(), String> + use<>)> {
        self.known.iter().map(|known| {
            let name = known.watched.name();
            let group = if name.group.is_empty() { "" } else { "." };
            let known = known.clone();
            (format!("{}{group}{}", name.plural, name.group), move |since| known.check(since))
        })
    }

    /// Subscribes to changes of these kinds.
    #[must_use]
    pub fn changes(&self) -> ListChanges {
        let of = |known: &Arc<Known>| {
            let versions = known.versions.iter().map(watch::Sender::subscribe).collect();
            let listings = known.lists.iter().map(|(_, listing)| listing.clone()).collect();
            (known.watched, versions, listings)
        };
        ListChanges { of: self.known.iter().map(of).collect() }
    }

    /// The futures of all watches.
    #[must_use]
    pub fn run(&self, client: &Client, index: &Arc<Index>) -> Vec<Watch> {
        let mut all = Vec::new();
        for known in &self.known {
            let name = known.watched.name();
            for (place, (version, (lister, _))) in
                name.versions.iter().zip(&known.lists).enumerate()
            {
                let (versions, lister) = (known.versions.clone(), lister.clone());
                let watch = VersionWatch { versions, place, version, lister };
                all.push(Watch { kind: name.kind, run: run(watch, known.watched, client, index) });
            }
        }
        let run = reread(client.clone(), index.clone()).boxed();
        all.push(Watch { kind: "waiting source objects", run });
        all
    }
}

impl Known {
    fn new(watched: WatchedKind, relist: &Relist) -> Self {
        let versions = watched.name().versions;
        let sender = |_: &&str| watch::Sender::new(Availability::Unknown);
        Self {
            watched,
            versions: Arc::new(versions.iter().map(sender).collect()),
            lists: versions.iter().map(|_| relist.watch()).collect(),
        }
    }

    /// Fails unless the kind was listed after this relist request.
    fn check(&self, since: u64) -> Result<(), String> {
        for (version, (_, listing)) in self.versions.iter().zip(&self.lists) {
            let availability = *version.borrow();
            if availability == Availability::Unknown || !listing.is_listed_since(since) {
                return Err("not complete yet".to_owned());
            }
            match availability {
                Availability::Present => return Ok(()),
                Availability::Absent | Availability::Unknown => {}
                // Roles of an upstream installation lack rights for kinds that upstream does not read.
                Availability::Denied if !self.watched.rights().in_upstream => return Ok(()),
                Availability::Denied => return Err("no right to list and watch".to_owned()),
            }
        }
        Ok(())
    }
}

/// Subscription to changes of availability and lists.
pub struct ListChanges {
    of: Vec<(WatchedKind, Vec<watch::Receiver<Availability>>, Vec<Listing>)>,
}

impl ListChanges {
    /// Waits for a change. The senders must live.
    pub async fn wait(&mut self) {
        let mut changes: Vec<BoxFuture<'_, ()>> = Vec::new();
        for (_, versions, listings) in &mut self.of {
            changes.extend(versions.iter_mut().map(|it| it.changed().map(|_| ()).boxed()));
            changes.extend(listings.iter_mut().map(|it| it.changed().boxed()));
        }
        if changes.is_empty() {
            return std::future::pending().await;
        }
        select_all(changes).await;
    }

    /// The source kinds that are affected by changes since the last call.
    pub fn take(&mut self) -> Vec<Kind> {
        let mut changed = BTreeSet::new();
        for (watched, versions, listings) in &mut self.of {
            let mut is_new = false;
            for version in versions {
                is_new |= version.has_changed().unwrap_or_default();
                version.mark_unchanged();
            }
            for listing in listings {
                is_new |= listing.take_change();
            }
            if is_new {
                changed.insert(*watched);
            }
        }
        let is_affected = |kind: &Kind| kind.needs().iter().any(|it| changed.contains(it));
        Kind::all().into_iter().filter(is_affected).collect()
    }
}

/// The future of the watch of one API version.
fn run(
    watch: VersionWatch,
    watched: WatchedKind,
    client: &Client,
    index: &Arc<Index>,
) -> BoxFuture<'static, Infallible> {
    let (client, index, version) = (client.clone(), index.clone(), watch.version);
    match watched {
        WatchedKind::Objects(kind) => {
            let handler = Arc::new(Objects::new(index, kind, version));
            (kind.row().objects.watch)(watch, client, handler)
        }
        WatchedKind::Routes(kind) => {
            let handler = Arc::new(Routes::new(index, kind, version));
            (kind.row().objects.watch)(watch, client, handler)
        }
        WatchedKind::Namespaces => watch.run(of_metadata(&client), Namespaces::new(index)).boxed(),
    }
}

#[cfg(test)]
mod tests;
