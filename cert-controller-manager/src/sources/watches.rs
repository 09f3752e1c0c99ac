//! Which kinds are followed, in which versions, and what is known of them.
//!
//! Of each kind the first version that is served is read; whether a kind is there may change at any
//! time, and nothing is restarted for it.

use std::{convert::Infallible, sync::Arc};

use futures::{
    FutureExt,
    future::{BoxFuture, select_all},
};
use kube::{Api, Client, runtime::watcher};
use tokio::sync::watch;

use super::{
    index::{Attached, Index, Objects, RouteKind, Routes},
    kind::Kind,
    object::Source,
};
use crate::{
    api::{
        ObjectKey,
        gateway::{self, GrpcRoute, HttpRoute, ListenerSet, TlsRoute, XListenerSet},
        istio,
        source::{Foreign, IngressSpec, ServiceSpec, Shape, Version},
    },
    runtime::follow::{Availability, Follower, Lister, Listing, Relist, follow},
};

/// What is followed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Followed {
    /// Objects that get certificates.
    Objects(Kind),
    /// What is attached to them.
    Routes(RouteKind),
}

/// A watch of one version of a kind.
pub struct Watch {
    /// The kind.
    pub kind: &'static str,
    /// Tells when a list was made; only of the version that is always looked for.
    pub listing: Option<Listing>,
    /// Never ends; its owner runs it.
    pub run: BoxFuture<'static, Infallible>,
}

/// The state of the watches of some kinds.
pub struct Watches {
    known: Vec<(Followed, &'static str, Versions)>,
}

/// One sender for each version of a kind, the preferred one first.
type Versions = Arc<Vec<watch::Sender<Availability>>>;

impl Watches {
    /// The watches that `kinds` need.
    #[must_use]
    pub fn new(kinds: &[Kind]) -> Self {
        let mut followed: Vec<Followed> = kinds.iter().flat_map(|kind| needs(*kind)).collect();
        followed.sort();
        followed.dedup();
        let known = followed.into_iter().map(|followed| {
            let name = name(followed);
            let sender = |_: &&str| watch::Sender::new(Availability::Unknown);
            (followed, name.kind, Arc::new(name.versions.iter().map(sender).collect()))
        });
        Self { known: known.collect() }
    }

    /// Whether everything that a decision about objects of `kind` rests on is known.
    #[must_use]
    pub fn known(&self, kind: Kind) -> bool {
        needs(kind).into_iter().all(|needed| self.is_known(needed))
    }

    fn is_known(&self, followed: Followed) -> bool {
        let Some((_, _, versions)) = self.known.iter().find(|known| known.0 == followed) else {
            return false;
        };
        for version in versions.iter() {
            match *version.borrow() {
                Availability::Present => return true,
                Availability::Absent => {}
                Availability::Unknown => return false,
                // Roles for upstream allow what it reads; without the rest everything else works.
                Availability::Denied => {
                    return matches!(followed, Followed::Routes(RouteKind::Grpc | RouteKind::Tls));
                }
            }
        }
        true
    }

    /// What is known, by kind and version, for people and probes.
    #[must_use]
    pub fn availability(&self) -> Vec<(&'static str, watch::Receiver<Availability>)> {
        let receivers = |(_, kind, versions): &(Followed, &'static str, Versions)| {
            let kind = *kind;
            versions.iter().map(move |version| (kind, version.subscribe())).collect::<Vec<_>>()
        };
        self.known.iter().flat_map(receivers).collect()
    }

    /// The watches, which `relist` can ask for new lists.
    #[must_use]
    pub fn run(&self, client: &Client, index: &Arc<Index>, relist: &Relist) -> Vec<Watch> {
        let mut all = Vec::new();
        for (followed, kind, versions) in &self.known {
            for (place, version) in name(*followed).versions.iter().enumerate() {
                let (lister, listing) = relist.watch();
                let (versions, relist) = (versions.clone(), relist.clone());
                let turn = Turn { versions, place, version, relist, lister };
                let run = turn.watch(*followed, client, index);
                all.push(Watch { kind, listing: (place == 0).then_some(listing), run });
            }
        }
        all
    }
}

/// A version of a kind, whose turn it is where the ones before it are not served.
struct Turn {
    versions: Versions,
    place: usize,
    version: &'static str,
    relist: Relist,
    lister: Lister,
}

impl Turn {
    fn watch(
        self,
        followed: Followed,
        client: &Client,
        index: &Arc<Index>,
    ) -> BoxFuture<'static, Infallible> {
        match followed {
            Followed::Objects(Kind::Ingress) => self.objects::<IngressSpec>(client, index),
            Followed::Objects(Kind::Service) => self.objects::<ServiceSpec>(client, index),
            Followed::Objects(Kind::IstioGateway) => {
                self.objects::<istio::GatewaySpec>(client, index)
            }
            Followed::Objects(Kind::Gateway) => self.objects::<gateway::GatewaySpec>(client, index),
            Followed::Objects(Kind::ListenerSet) => self.objects::<ListenerSet>(client, index),
            Followed::Objects(Kind::XListenerSet) => self.objects::<XListenerSet>(client, index),
            Followed::Routes(RouteKind::VirtualService) => {
                self.routes::<istio::VirtualServiceSpec>(client, index)
            }
            Followed::Routes(RouteKind::Http) => self.routes::<HttpRoute>(client, index),
            Followed::Routes(RouteKind::Grpc) => self.routes::<GrpcRoute>(client, index),
            Followed::Routes(RouteKind::Tls) => self.routes::<TlsRoute>(client, index),
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
        mut self,
        client: Client,
        follower: impl Follower<Foreign<S>> + Send + Sync,
    ) -> Infallible {
        let versions = self.versions.clone();
        let (before, from_here) = versions.split_at(self.place);
        let Some(availability) = from_here.first() else { return std::future::pending().await };
        loop {
            changed_until(before, true).await;
            let api: Api<Foreign<S>> = Api::all_with(client.clone(), &Version(self.version));
            let lister = std::mem::replace(&mut self.lister, self.relist.watch().0);
            let config = watcher::Config::default();
            tokio::select! {
                never = follow(api, config, &follower, availability, lister) => match never {},
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
fn needs(kind: Kind) -> Vec<Followed> {
    let routes = [RouteKind::Http, RouteKind::Grpc, RouteKind::Tls].map(Followed::Routes);
    let own = Followed::Objects(kind);
    match kind {
        Kind::Ingress | Kind::Service => vec![own],
        Kind::IstioGateway => vec![own, Followed::Routes(RouteKind::VirtualService)],
        Kind::Gateway => [vec![own], routes.to_vec()].concat(),
        Kind::ListenerSet | Kind::XListenerSet => {
            [vec![own, Followed::Objects(Kind::Gateway)], routes.to_vec()].concat()
        }
    }
}

fn name(followed: Followed) -> &'static crate::api::source::KindName {
    match followed {
        Followed::Objects(kind) => kind.name(),
        Followed::Routes(RouteKind::VirtualService) => &istio::VIRTUAL_SERVICE,
        Followed::Routes(RouteKind::Http) => &gateway::HTTP_ROUTE,
        Followed::Routes(RouteKind::Grpc) => &gateway::GRPC_ROUTE,
        Followed::Routes(RouteKind::Tls) => &gateway::TLS_ROUTE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(watches: &Watches, followed: Followed, availability: &[Availability]) {
        let (_, _, versions) = watches.known.iter().find(|known| known.0 == followed).unwrap();
        for (sender, availability) in versions.iter().zip(availability) {
            sender.send_replace(*availability);
        }
    }

    #[test]
    fn a_kind_is_known_when_the_first_served_version_of_all_that_it_needs_is() {
        use Availability::{Absent, Denied, Present, Unknown};
        let gateway = Followed::Objects(Kind::IstioGateway);
        let services = Followed::Routes(RouteKind::VirtualService);
        for (gateways, virtual_services, known) in [
            ([Unknown, Unknown], [Present, Unknown], false),
            ([Present, Unknown], [Unknown, Unknown], false),
            ([Present, Unknown], [Present, Unknown], true),
            ([Absent, Unknown], [Present, Unknown], false),
            ([Absent, Present], [Absent, Absent], true),
            ([Absent, Absent], [Absent, Absent], true),
            ([Denied, Unknown], [Present, Unknown], false),
            ([Present, Unknown], [Denied, Unknown], false),
        ] {
            let watches = Watches::new(&[Kind::IstioGateway]);
            set(&watches, gateway, &gateways);
            set(&watches, services, &virtual_services);
            assert_eq!(
                watches.known(Kind::IstioGateway),
                known,
                "{gateways:?} {virtual_services:?}"
            );
            assert!(!watches.known(Kind::Ingress));
        }
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
