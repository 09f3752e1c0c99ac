//! The watches of source kinds, routes and namespaces, and the state of their lists.
//!
//! Of each kind, the first served API version is watched. Kinds may appear and disappear at any time
//! without a restart.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, select_all},
};
use kube::{Api, Client, runtime::watcher};
use tokio::sync::watch;

use super::{
    index::{Index, Namespaces, Objects},
    kind::Kind,
    object::Source,
    reread::reread,
    routes::{Attached, RouteKind, Routes},
};
use crate::{
    api::{
        ObjectKey,
        gateway::{self, GrpcRoute, HttpRoute, ListenerSet, TlsRoute, XListenerSet},
        istio,
        source::{Foreign, IngressSpec, NAMESPACE, ServiceSpec, Shape, Version},
    },
    runtime::{
        clusters::of_metadata,
        watch::{Availability, EventHandler, Lister, Listing, Relist, watch_as},
    },
};

/// A watched kind.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WatchedKind {
    /// Source objects.
    Objects(Kind),
    /// Routes.
    Routes(RouteKind),
    /// Namespaces, for selectors of their labels.
    Namespaces,
}

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

/// One sender for each API version of a kind, the preferred version first.
type Versions = Arc<Vec<watch::Sender<Availability>>>;

impl Watches {
    /// The watches that `kinds` need. `relist` requests new lists from them.
    #[must_use]
    pub fn new(kinds: &[Kind], relist: &Relist) -> Self {
        let mut watched: Vec<WatchedKind> = kinds.iter().flat_map(|kind| needs(*kind)).collect();
        watched.sort();
        watched.dedup();
        let known = watched.into_iter().map(|watched| Arc::new(Known::new(watched, relist)));
        Self { known: known.collect() }
    }

    /// Whether all kinds that `kind` depends on were listed after this relist request.
    #[must_use]
    pub fn known(&self, kind: Kind, since: u64) -> bool {
        needs(kind).into_iter().all(|needed| {
            let known = self.known.iter().find(|known| known.watched == needed);
            known.is_some_and(|known| known.check(since).is_ok())
        })
    }

    /// Readiness checks: one for each watched kind, with a relist request as argument.
    pub fn checks(
        &self,
    ) -> impl Iterator<Item = (String, impl Fn(u64) -> Result<(), String> + use<>)> {
        self.known.iter().map(|known| {
            let name = name(known.watched);
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
            let name = name(known.watched);
            for (place, (version, (lister, _))) in
                name.versions.iter().zip(&known.lists).enumerate()
            {
                let (versions, lister) = (known.versions.clone(), lister.clone());
                let watch = VersionWatch { versions, place, version, lister };
                all.push(Watch { kind: name.kind, run: watch.watch(known.watched, client, index) });
            }
        }
        let run = reread(client.clone(), index.clone()).boxed();
        all.push(Watch { kind: "waiting source objects", run });
        all
    }
}

impl Known {
    fn new(watched: WatchedKind, relist: &Relist) -> Self {
        let versions = name(watched).versions;
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
                Availability::Denied if is_extra(self.watched) => return Ok(()),
                Availability::Denied => return Err("no right to list and watch".to_owned()),
            }
        }
        Ok(())
    }
}

/// Whether only we read this kind, and not upstream.
fn is_extra(watched: WatchedKind) -> bool {
    matches!(
        watched,
        WatchedKind::Namespaces | WatchedKind::Routes(RouteKind::Grpc | RouteKind::Tls)
    )
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
        let is_affected = |kind: &Kind| needs(*kind).iter().any(|it| changed.contains(it));
        Kind::ALL.into_iter().filter(is_affected).collect()
    }
}

/// The watch of one API version. It is active only while the preferred versions are absent.
struct VersionWatch {
    versions: Versions,
    place: usize,
    version: &'static str,
    lister: Lister,
}

impl VersionWatch {
    fn watch(
        self,
        watched: WatchedKind,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        match watched {
            WatchedKind::Objects(Kind::Ingress) => self.objects::<IngressSpec>(client, index),
            WatchedKind::Objects(Kind::Service) => self.objects::<ServiceSpec>(client, index),
            WatchedKind::Objects(Kind::IstioGateway) => {
                self.objects::<istio::GatewaySpec>(client, index)
            }
            WatchedKind::Objects(Kind::Gateway) => {
                self.objects::<gateway::GatewaySpec>(client, index)
            }
            WatchedKind::Objects(Kind::ListenerSet) => self.objects::<ListenerSet>(client, index),
            WatchedKind::Objects(Kind::XListenerSet) => self.objects::<XListenerSet>(client, index),
            WatchedKind::Routes(RouteKind::VirtualService) => {
                self.routes::<istio::VirtualServiceSpec>(client, index)
            }
            WatchedKind::Routes(RouteKind::Http) => self.routes::<HttpRoute>(client, index),
            WatchedKind::Routes(RouteKind::Grpc) => self.routes::<GrpcRoute>(client, index),
            WatchedKind::Routes(RouteKind::Tls) => self.routes::<TlsRoute>(client, index),
            WatchedKind::Namespaces => {
                self.watch_kind(of_metadata(client), Namespaces::new(index.clone())).boxed()
            }
        }
    }

    fn objects<S: Source>(
        self,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        let handler = Objects::<S>::new(index.clone(), self.version);
        self.watch_kind(client.clone(), handler).boxed()
    }

    fn routes<S: Attached>(
        self,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        let handler = Routes::<S>::new(index.clone(), self.version);
        self.watch_kind(client.clone(), handler).boxed()
    }

    /// Watches while the preferred versions are absent.
    async fn watch_kind<S: Shape>(
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

/// The watched kinds that determine the certificates of a source kind.
fn needs(kind: Kind) -> Vec<WatchedKind> {
    let routes = [RouteKind::Http, RouteKind::Grpc, RouteKind::Tls].map(WatchedKind::Routes);
    let own = WatchedKind::Objects(kind);
    match kind {
        Kind::Ingress | Kind::Service => vec![own],
        Kind::IstioGateway => vec![own, WatchedKind::Routes(RouteKind::VirtualService)],
        Kind::Gateway => [vec![own, WatchedKind::Namespaces], routes.to_vec()].concat(),
        Kind::ListenerSet | Kind::XListenerSet => {
            let others = vec![own, WatchedKind::Objects(Kind::Gateway), WatchedKind::Namespaces];
            [others, routes.to_vec()].concat()
        }
    }
}

fn name(watched: WatchedKind) -> &'static crate::api::source::KindName {
    match watched {
        WatchedKind::Objects(kind) => kind.name(),
        WatchedKind::Routes(kind) => kind.name(),
        WatchedKind::Namespaces => &NAMESPACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(watches: &Watches, watched: WatchedKind, availability: &[Availability]) {
        let known = watches.known.iter().find(|known| known.watched == watched).unwrap();
        for (version, availability) in known.versions.iter().zip(availability) {
            version.send_replace(*availability);
        }
    }

    /// Marks all versions of a kind as listed after this relist request.
    fn listed(watches: &Watches, watched: WatchedKind, number: u64) {
        let known = watches.known.iter().find(|known| known.watched == watched).unwrap();
        known.lists.iter().for_each(|(lister, _)| lister.complete(number));
    }

    const ISTIO: WatchedKind = WatchedKind::Objects(Kind::IstioGateway);
    const SERVICES: WatchedKind = WatchedKind::Routes(RouteKind::VirtualService);

    #[test]
    fn a_kind_is_known_when_all_its_dependencies_are_listed_in_their_first_served_version() {
        use Availability::{Absent, Denied, Present, Unknown};
        for (gateways, virtual_services, known) in [
            ([Unknown, Unknown, Unknown], [Present, Unknown, Unknown], false),
            ([Present, Unknown, Unknown], [Unknown, Unknown, Unknown], false),
            ([Present, Unknown, Unknown], [Present, Unknown, Unknown], true),
            ([Absent, Unknown, Unknown], [Present, Unknown, Unknown], false),
            ([Absent, Present, Unknown], [Absent, Absent, Present], true),
            ([Absent, Absent, Absent], [Absent, Absent, Absent], true),
            ([Denied, Unknown, Unknown], [Present, Unknown, Unknown], false),
            ([Present, Unknown, Unknown], [Denied, Unknown, Unknown], false),
        ] {
            let watches = Watches::new(&[Kind::IstioGateway], &Relist::default());
            set(&watches, ISTIO, &gateways);
            set(&watches, SERVICES, &virtual_services);
            assert!(!watches.known(Kind::IstioGateway, 0), "nothing was listed");
            listed(&watches, ISTIO, 0);
            listed(&watches, SERVICES, 0);
            let found = watches.known(Kind::IstioGateway, 0);
            assert_eq!(found, known, "{gateways:?} {virtual_services:?}");
            assert!(!watches.known(Kind::Ingress, 0));
        }
    }

    #[test]
    fn a_kind_that_cannot_be_listed_delays_only_its_dependents() {
        use Availability::Present;
        let watches =
            Watches::new(&[Kind::Ingress, Kind::Gateway, Kind::IstioGateway], &Relist::default());
        let mut changes = watches.changes();
        for known in &watches.known {
            set(&watches, known.watched, &[Present]);
            listed(&watches, known.watched, 1);
        }
        assert_eq!(
            changes.take(),
            [
                Kind::Ingress,
                Kind::IstioGateway,
                Kind::Gateway,
                Kind::ListenerSet,
                Kind::XListenerSet
            ]
        );
        // A new leader requests all lists, and one list fails.
        for known in
            watches.known.iter().filter(|it| it.watched != WatchedKind::Routes(RouteKind::Http))
        {
            listed(&watches, known.watched, 2);
        }
        let known =
            [Kind::Ingress, Kind::IstioGateway, Kind::Gateway].map(|kind| watches.known(kind, 2));
        assert_eq!(known, [true, true, false]);
        let missing = watches.checks().filter(|(_, check)| check(2).is_err());
        let missing: Vec<String> = missing.map(|(kind, _)| kind).collect();
        assert_eq!(missing, ["httproutes.gateway.networking.k8s.io"]);
        changes.take();
        listed(&watches, WatchedKind::Routes(RouteKind::Http), 2);
        assert!(watches.known(Kind::Gateway, 2));
        assert_eq!(changes.take(), [Kind::Gateway, Kind::ListenerSet, Kind::XListenerSet]);
    }

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
