use super::*;
use crate::sources::key::RouteKind;

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
        [Kind::Ingress, Kind::Gateway, Kind::ListenerSet, Kind::XListenerSet, Kind::IstioGateway]
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
