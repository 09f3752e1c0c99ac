//! The watch of one API version of a kind. It is active only while the preferred versions are absent.

use std::{convert::Infallible, sync::Arc};

use futures::future::select_all;
use kube::{Api, Client, runtime::watcher};
use tokio::sync::watch;

use crate::{
    api::{
        ObjectKey,
        source::{Foreign, Shape, Version},
    },
    runtime::watch::{Availability, EventHandler, Lister, watch_as},
};

/// One sender for each API version of a kind, the preferred version first.
pub type Versions = Arc<Vec<watch::Sender<Availability>>>;

/// See the [module](self).
pub struct VersionWatch {
    /// The availability of all versions of the kind.
    pub versions: Versions,
    /// The position of this version.
    pub place: usize,
    /// The API version.
    pub version: &'static str,
    /// Requests lists from this watch.
    pub lister: Lister,
}

impl VersionWatch {
    /// Watches while the preferred versions are absent.
    pub(super) async fn run<S: Shape>(
        self,
        client: Client,
        handler: impl EventHandler<Foreign<S>> + Send + Sync,
    ) -> Infallible {
        let versions = self.versions.clone();
        let (before, from_here) = versions.split_at(self.place);
        let Some(availability) = from_here.first() else { return std::future::pending().await };
        loop {
            changed_until(before, true).await;
            let version = Version(self.version);
            let api: Api<Foreign<S>> = Api::all_with(client.clone(), &version);
            let lister = self.lister.clone();
            let config = watcher::Config::default();
            tokio::select! {
                never = watch_as(version, api, config, &handler, availability, lister) => match never {},
                () = changed_until(before, false) => {}
            }
            // The preferred version has listed all objects: others are deleted.
            availability.send_replace(Availability::Unknown);
            let left: Vec<ObjectKey> = handler.keys();
            left.iter().for_each(|key| handler.gone(key));
        }
    }
}

/// Waits until all of these versions are absent, or until one of them is present.
async fn changed_until(versions: &[watch::Sender<Availability>], absent: bool) {
    let mut receivers: Vec<_> = versions.iter().map(watch::Sender::subscribe).collect();
    loop {
        let now: Vec<Availability> =
            receivers.iter_mut().map(|receiver| *receiver.borrow_and_update()).collect();
        let reached = if absent {
            now.iter().all(|one| *one == Availability::Absent)
        } else {
            now.contains(&Availability::Present)
        };
        if reached {
            return;
        }
        if receivers.is_empty() {
            return std::future::pending().await;
        }
        let changes = receivers.iter_mut().map(|receiver| Box::pin(receiver.changed()));
        // The senders are borrowed, so they live.
        let _ = select_all(changes).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_version_is_watched_when_the_preferred_versions_are_absent() {
        let versions = [watch::Sender::new(Availability::Unknown)];
        let mut begin = Box::pin(changed_until(&versions, true));
        assert!((&mut begin).now_or_never().is_none());
        versions[0].send_replace(Availability::Absent);
        begin.await;
        let mut end = Box::pin(changed_until(&versions, false));
        assert!((&mut end).now_or_never().is_none());
        versions[0].send_replace(Availability::Present);
        end.await;
        changed_until(&[], true).await;
    }
}
