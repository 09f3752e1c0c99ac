//! Which kinds are followed, in which versions, and what is known of them.
//!
//! Of each kind the first version that is served is read; whether a kind is there may change at any
//! time, and nothing is restarted for it.

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

/// What is followed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum WatchedKind {
    /// Objects that get certificates.
    Objects(Kind),
    /// What is attached to them.
    Routes(RouteKind),
    /// Namespaces, whose labels decide what may be attached.
    Namespaces,
}

/// A watch of one version of a kind.
pub struct Watch {
    /// The kind.
    pub kind: &'static str,
    /// Never ends; its owner runs it.
    pub run: BoxFuture<'static, Infallible>,
}

/// The state of the watches of some kinds. Each kind is by itself: one that cannot be listed delays
/// only those whose certificates depend on it.
pub struct Watches {
    known: Vec<Arc<Known>>,
}

/// What is known of one kind.
struct Known {
    followed: WatchedKind,
    versions: Versions,
    /// One for each version.
    lists: Vec<(Lister, Listing)>,
}

/// One sender for each version of a kind, the preferred one first.
type Versions = Arc<Vec<watch::Sender<Availability>>>;

impl Watches {
    /// The watches that `kinds` need, which `relist` can ask for new lists.
    #[must_use]
    pub fn new(kinds: &[Kind], relist: &Relist) -> Self {
        let mut followed: Vec<WatchedKind> = kinds.iter().flat_map(|kind| needs(*kind)).collect();
        followed.sort();
        followed.dedup();
        let known = followed.into_iter().map(|followed| Arc::new(Known::new(followed, relist)));
        Self { known: known.collect() }
    }

    /// Whether everything that a decision about objects of `kind` rests on is known, from lists that
    /// were made after the wish of this number.
    #[must_use]
    pub fn known(&self, kind: Kind, since: u64) -> bool {
        needs(kind).into_iter().all(|needed| {
            let known = self.known.iter().find(|known| known.followed == needed);
            known.is_some_and(|known| known.check(since).is_ok())
        })
    }

    /// For probes: what is followed, and what is missing of it since the wish of this number.
    pub fn checks(
        &self,
    ) -> impl Iterator<Item = (String, impl Fn(u64) -> Result<(), String> + use<>)> {
        self.known.iter().map(|known| {
            let name = name(known.followed);
            let group = if name.group.is_empty() { "" } else { "." };
            let known = known.clone();
            (format!("{}{group}{}", name.plural, name.group), move |since| known.check(since))
        })
    }

    /// Tells of what has become known of these kinds.
    #[must_use]
    pub fn changes(&self) -> ListChanges {
        let of = |known: &Arc<Known>| {
            let versions = known.versions.iter().map(watch::Sender::subscribe).collect();
            let listings = known.lists.iter().map(|(_, listing)| listing.clone()).collect();
            (known.followed, versions, listings)
        };
        ListChanges { of: self.known.iter().map(of).collect() }
    }

    /// The watches.
    #[must_use]
    pub fn run(&self, client: &Client, index: &Arc<Index>) -> Vec<Watch> {
        let mut all = Vec::new();
        for known in &self.known {
            let name = name(known.followed);
            for (place, (version, (lister, _))) in
                name.versions.iter().zip(&known.lists).enumerate()
            {
                let (versions, lister) = (known.versions.clone(), lister.clone());
                let turn = VersionTurn { versions, place, version, lister };
                all.push(Watch { kind: name.kind, run: turn.watch(known.followed, client, index) });
            }
        }
        let run = reread(client.clone(), index.clone()).boxed();
        all.push(Watch { kind: "objects that wait for room", run });
        all
    }
}

impl Known {
    fn new(followed: WatchedKind, relist: &Relist) -> Self {
        let versions = name(followed).versions;
        let sender = |_: &&str| watch::Sender::new(Availability::Unknown);
        Self {
            followed,
            versions: Arc::new(versions.iter().map(sender).collect()),
            lists: versions.iter().map(|_| relist.watch()).collect(),
        }
    }

    /// Whether all objects that there were at the wish of this number are known; what is missing
    /// where they are not.
    fn check(&self, since: u64) -> Result<(), String> {
        for (version, (_, listing)) in self.versions.iter().zip(&self.lists) {
            let availability = *version.borrow();
            if availability == Availability::Unknown || !listing.is_since(since) {
                return Err("not complete yet".to_owned());
            }
            match availability {
                Availability::Present => return Ok(()),
                Availability::Absent | Availability::Unknown => {}
                // Roles for upstream allow what it reads; without the rest everything else works.
                Availability::Denied if is_extra(self.followed) => return Ok(()),
                Availability::Denied => return Err("no right to list and watch".to_owned()),
            }
        }
        Ok(())
    }
}

/// Whether upstream does not read this kind.
fn is_extra(followed: WatchedKind) -> bool {
    matches!(
        followed,
        WatchedKind::Namespaces | WatchedKind::Routes(RouteKind::Grpc | RouteKind::Tls)
    )
}

/// What becomes known of some kinds.
pub struct ListChanges {
    of: Vec<(WatchedKind, Vec<watch::Receiver<Availability>>, Vec<Listing>)>,
}

impl ListChanges {
    /// Waits until there is some. Their senders live.
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

    /// The kinds of objects that there is news about since the last call.
    pub fn take(&mut self) -> Vec<Kind> {
        let mut changed = BTreeSet::new();
        for (followed, versions, listings) in &mut self.of {
            let mut is_new = false;
            for version in versions {
                is_new |= version.has_changed().unwrap_or_default();
                version.mark_unchanged();
            }
            for listing in listings {
                is_new |= listing.take_change();
            }
            if is_new {
                changed.insert(*followed);
            }
        }
        let is_concerned = |kind: &Kind| needs(*kind).iter().any(|it| changed.contains(it));
        Kind::ALL.into_iter().filter(is_concerned).collect()
    }
}

/// A version of a kind, whose turn it is where the ones before it are not served.
struct VersionTurn {
    versions: Versions,
    place: usize,
    version: &'static str,
    lister: Lister,
}

impl VersionTurn {
    fn watch(
        self,
        followed: WatchedKind,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        match followed {
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
                self.follow(of_metadata(client), Namespaces::new(index.clone())).boxed()
            }
        }
    }

    fn objects<S: Source>(
        self,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        let follower = Objects::<S>::new(index.clone(), self.version);
        self.follow(client.clone(), follower).boxed()
    }

    fn routes<S: Attached>(
        self,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        let follower = Routes::<S>::new(index.clone(), self.version);
        self.follow(client.clone(), follower).boxed()
    }

    /// Follows while it is this version's turn.
    async fn follow<S: Shape>(
        self,
        client: Client,
        follower: impl EventHandler<Foreign<S>> + Send + Sync,
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
                never = watch_as(version, api, config, &follower, availability, lister) => match never {},
                () = changed_until(before, false) => {}
            }
            // The version before has told what there is; what only this one knew is gone.
            availability.send_replace(Availability::Unknown);
            let left: Vec<ObjectKey> = follower.keys();
            left.iter().for_each(|key| follower.gone(key));
        }
    }
}

/// Waits until all of these versions are absent, or until one of them is there.
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

/// What a decision about objects of this kind rests on.
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

fn name(followed: WatchedKind) -> &'static crate::api::source::KindName {
    match followed {
        WatchedKind::Objects(kind) => kind.name(),
        WatchedKind::Routes(kind) => kind.name(),
        WatchedKind::Namespaces => &NAMESPACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(watches: &Watches, followed: WatchedKind, availability: &[Availability]) {
        let known = watches.known.iter().find(|known| known.followed == followed).unwrap();
        for (version, availability) in known.versions.iter().zip(availability) {
            version.send_replace(*availability);
        }
    }

    /// Says of all versions of a kind that they were listed after the wish of this number.
    fn listed(watches: &Watches, followed: WatchedKind, number: u64) {
        let known = watches.known.iter().find(|known| known.followed == followed).unwrap();
        known.lists.iter().for_each(|(lister, _)| lister.tell(number));
    }

    const ISTIO: WatchedKind = WatchedKind::Objects(Kind::IstioGateway);
    const SERVICES: WatchedKind = WatchedKind::Routes(RouteKind::VirtualService);

    #[test]
    fn a_kind_is_known_when_the_first_served_version_of_all_that_it_needs_is() {
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
    fn a_kind_that_cannot_be_listed_delays_only_those_that_need_it_and_is_named() {
        use Availability::Present;
        let watches =
            Watches::new(&[Kind::Ingress, Kind::Gateway, Kind::IstioGateway], &Relist::default());
        let mut news = watches.changes();
        for known in &watches.known {
            set(&watches, known.followed, &[Present]);
            listed(&watches, known.followed, 1);
        }
        assert_eq!(
            news.take(),
            [
                Kind::Ingress,
                Kind::IstioGateway,
                Kind::Gateway,
                Kind::ListenerSet,
                Kind::XListenerSet
            ]
        );
        // A new leader wants all again, and one list fails.
        for known in
            watches.known.iter().filter(|it| it.followed != WatchedKind::Routes(RouteKind::Http))
        {
            listed(&watches, known.followed, 2);
        }
        let known =
            [Kind::Ingress, Kind::IstioGateway, Kind::Gateway].map(|kind| watches.known(kind, 2));
        assert_eq!(known, [true, true, false]);
        let missing = watches.checks().filter(|(_, check)| check(2).is_err());
        let missing: Vec<String> = missing.map(|(kind, _)| kind).collect();
        assert_eq!(missing, ["httproutes.gateway.networking.k8s.io"]);
        news.take();
        listed(&watches, WatchedKind::Routes(RouteKind::Http), 2);
        assert!(watches.known(Kind::Gateway, 2));
        assert_eq!(news.take(), [Kind::Gateway, Kind::ListenerSet, Kind::XListenerSet]);
    }

    #[tokio::test]
    async fn a_version_has_its_turn_when_those_before_it_are_absent() {
        let versions = [watch::Sender::new(Availability::Unknown)];
        let mut turn = Box::pin(changed_until(&versions, true));
        assert!((&mut turn).now_or_never().is_none());
        versions[0].send_replace(Availability::Absent);
        turn.await;
        let mut end = Box::pin(changed_until(&versions, false));
        assert!((&mut end).now_or_never().is_none());
        versions[0].send_replace(Availability::Present);
        end.await;
        changed_until(&[], true).await;
    }
}
