//! Enqueues source objects when the lists become complete that their certificates depend on.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use tokio::time::sleep;

use super::{
    controller::Sources,
    key::{Kind, SourceKey},
};

/// Changes within this time cause one reconciliation.
const BATCH_DELAY: Duration = Duration::from_millis(500);

impl Sources {
    /// Enqueues objects when the lists of their kinds become complete. Never returns.
    pub async fn enqueue_on_changes(&self) -> Infallible {
        let mut changes = self.watches.changes();
        let mut clusters = self.owned.completed();
        let every = Kind::all();
        self.enqueue_kinds(&every);
        loop {
            let cluster_completed = tokio::select! {
                () = changes.wait() => false,
                _ = clusters.changed() => true,
            };
            // When a cluster comes back, all kinds become complete at about the same time.
            sleep(BATCH_DELAY).await;
            let kinds = changes.take();
            let all = cluster_completed || clusters.has_changed().unwrap_or_default();
            clusters.mark_unchanged();
            self.enqueue_kinds(if all { &every } else { &kinds });
        }
    }

    /// Enqueues all objects of these kinds, and missing objects that still own Certificates.
    fn enqueue_kinds(&self, kinds: &[Kind]) {
        let mut all: BTreeSet<SourceKey> = self.owned.owners().into_iter().collect();
        all.retain(|key| kinds.contains(&key.kind));
        all.extend(kinds.iter().flat_map(|kind| self.index.of_kind(*kind)));
        all.into_iter().for_each(|key| self.queue.push(key));
    }
}
