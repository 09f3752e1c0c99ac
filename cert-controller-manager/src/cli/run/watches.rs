//! The watches: every kind of every cluster once, whoever wants to hear of it.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, Resource, core::PartialObjectMeta, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch::{Receiver, Sender};

use super::{Context, wiring::Issuing};
use crate::{
    api::{
        Certificate, CertificateCluster, CertificateRevocation, Issuer, dnsentry::DNSEntry,
        trim::trim, well_known,
    },
    certificates::watch_handlers::CertificateHandler,
    issuers::{
        reconcile::Controller as Issuers,
        watched::{self, Watched},
    },
    revocations::index as revocations,
    runtime::{
        clusters::of_metadata,
        tasks::Tasks,
        watch::{self, Availability, EventHandler, FanOut, Listing, watch},
    },
    sources::sync::Sources,
};

type Shared<K> = Arc<dyn EventHandler<K> + Send + Sync>;

/// One watch that is about to start.
struct Watch<K> {
    api: Api<K>,
    config: watcher::Config,
    follower: Shared<K>,
    availability: Arc<Sender<Availability>>,
    /// For the readiness: what is watched where; `None` for what may be missing.
    needed: Option<&'static str>,
}

impl<K> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default,
{
    fn new(api: Api<K>, follower: Shared<K>) -> Self {
        Self {
            api,
            config: watcher::Config::default(),
            follower,
            availability: Arc::new(Sender::new(Availability::Unknown)),
            needed: None,
        }
    }

    fn labels(self, selector: &str) -> Self {
        Self { config: self.config.labels(selector), ..self }
    }

    fn needed(self, what: &'static str) -> Self {
        Self { needed: Some(what), ..self }
    }

    /// Starts it, and lets the readiness ask for it.
    fn start(self, ground: &Context, tasks: &mut Tasks) -> ListedKind {
        let (lister, listing) = ground.relist.watch();
        let availability = self.availability.subscribe();
        if let Some(what) = self.needed {
            ground.admin.readiness.require_list(what, availability.clone());
        }
        tasks.run("watch", async move {
            watch(self.api, self.config, &self.follower, &self.availability, lister).await
        });
        ListedKind { listing, availability }
    }
}

/// A list, and whether there is one at all.
pub(super) struct ListedKind {
    pub(super) listing: Listing,
    availability: Receiver<Availability>,
}

impl ListedKind {
    /// Waits until everything there is has been told since the wish of this number. In contrast to
    /// the listing alone, a kind that we may not see is waited for.
    pub(super) async fn of_all_since(mut self, number: u64) {
        self.listing.since(number).await;
        let seen = |it: &Availability| matches!(it, Availability::Present | Availability::Absent);
        if self.availability.wait_for(seen).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The lists of Issuers and of the Secrets that they refer to.
#[derive(Default)]
pub(super) struct IssuerLists {
    pub(super) default: Vec<Listing>,
    pub(super) target: Vec<Listing>,
}

/// The lists that a leader waits for.
pub(super) struct IssuingLists {
    /// Certificates of the source cluster.
    pub(super) source: ListedKind,
    /// Certificates of the target cluster, where that is another one.
    pub(super) target: Option<ListedKind>,
    /// Secrets, Namespaces and DNSEntries: better known first, but nothing waits for them for long.
    pub(super) others: Vec<Listing>,
}

/// Follows Issuers and the Secrets that they refer to.
pub(super) fn issuers(ground: &Context, issuers: &Arc<Issuers>, tasks: &mut Tasks) -> IssuerLists {
    // A CA's Secret may be one that we have issued.
    let keys = format!("!{}", well_known::PROGRESS);
    let mut of = |client: &Client, namespace: Option<&str>, cluster, what| {
        let follower = Arc::new(Watched { controller: issuers.clone(), cluster });
        let issuers: Api<Issuer> = within(client, namespace);
        let issuers = Watch::new(issuers, follower.clone()).needed(what).start(ground, tasks);
        let secrets: Api<PartialObjectMeta<Secret>> = within(&of_metadata(client), namespace);
        let secrets = Watch::new(secrets, follower).labels(&keys).start(ground, tasks);
        vec![issuers.listing, secrets.listing]
    };
    let clusters = &ground.clusters;
    let default = of(
        &clusters.default.0,
        Some(&issuers.namespace),
        watched::IssuerCluster::Default,
        "Issuers",
    );
    let target = if issuers.target.is_some() {
        of(
            &clusters.target.0,
            None,
            watched::IssuerCluster::Target,
            "Issuers of the target cluster",
        )
    } else {
        Vec::new()
    };
    IssuerLists { default, target }
}

fn within<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
    K::DynamicType: Default,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Follows Certificates, and what a pass over one looks at besides.
pub(super) fn issuing(
    ground: &Context,
    issuing: Option<&Issuing>,
    sources: &[Arc<Sources>],
    tasks: &mut Tasks,
) -> IssuingLists {
    let mut at = |home| certificates(ground, issuing, sources, home, tasks);
    let source = at(CertificateCluster::Source);
    let target = other_home(ground).map(at);
    let others = issuing.map_or_else(Vec::new, |it| surroundings(ground, it, tasks));
    IssuingLists { source, target, others }
}

/// Where Certificates are besides the source cluster.
fn other_home(ground: &Context) -> Option<CertificateCluster> {
    (!ground.clusters.target_is_source()).then_some(CertificateCluster::Target)
}

/// Follows Certificates for everybody who wants to hear of them.
fn certificates(
    ground: &Context,
    issuing: Option<&Issuing>,
    sources: &[Arc<Sources>],
    home: CertificateCluster,
    tasks: &mut Tasks,
) -> ListedKind {
    let mut followers: Vec<Shared<Arc<Certificate>>> = Vec::new();
    if let Some(issuing) = issuing {
        followers.push(Arc::new(CertificateHandler::new(home, issuing.certificates.clone())));
        followers
            .push(Arc::new(revocations::RevocationHandler::new(home, issuing.revocations.clone())));
    }
    for sources in sources {
        followers.push(Arc::new(sources.owned_certificates_handler(home)));
    }
    let (client, what) = match home {
        CertificateCluster::Source => (&ground.clusters.source.0, "Certificates"),
        CertificateCluster::Target => {
            (&ground.clusters.target.0, "Certificates of the target cluster")
        }
    };
    let api: Api<Certificate> = Api::all(client.clone());
    Watch::new(api, Arc::new(watch::Shared(FanOut(followers), trim)))
        .needed(what)
        .start(ground, tasks)
}

/// Follows what a pass over a Certificate looks at besides.
fn surroundings(
    ground: &Context,
    Issuing { certificates, entries, .. }: &Issuing,
    tasks: &mut Tasks,
) -> Vec<Listing> {
    let target = of_metadata(&ground.clusters.target.0);
    let secrets: Api<PartialObjectMeta<Secret>> = Api::all(target.clone());
    let secrets = Watch::new(secrets, certificates.clone() as Shared<_>)
        .labels(&format!("{}=true", well_known::CERTIFICATE))
        .needed("Secrets")
        .start(ground, tasks);
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(target.clone());
    let namespaces = Watch {
        availability: certificates.secret_grants.availability.clone(),
        ..Watch::new(namespaces, certificates.clone() as Shared<_>)
    };
    let dns = within::<DNSEntry>(&ground.clusters.dns.0, entries.namespace());
    let dns =
        Watch { availability: entries.sender(), ..Watch::new(dns, entries.clone() as Shared<_>) };
    let others = [secrets, namespaces.start(ground, tasks), dns.start(ground, tasks)];
    others.map(|known| known.listing).into()
}

/// Follows the objects that get certificates, and what is attached to them. The readiness names
/// each kind that is missing.
pub(super) fn sources(ground: &Context, sources: &[Arc<Sources>], tasks: &mut Tasks) {
    for sources in sources {
        for (kind, check) in sources.checks() {
            ground.admin.readiness.require(format!("list of {kind}"), check);
        }
        for watch in sources.watches() {
            tasks.run(watch.kind, watch.run);
        }
    }
}

/// Follows CertificateRevocations. The manager is ready without them: somebody else may deploy the
/// definitions, and not this one.
pub(super) fn revocations(
    ground: &Context,
    issuing: Option<&Issuing>,
    tasks: &mut Tasks,
) -> Vec<Listing> {
    let Some(issuing) = issuing else { return Vec::new() };
    let at = |home| {
        let client = match home {
            CertificateCluster::Source => &ground.clusters.source.0,
            CertificateCluster::Target => &ground.clusters.target.0,
        };
        let api: Api<CertificateRevocation> = Api::all(client.clone());
        let follower = revocations::RevocationHandler::new(home, issuing.revocations.clone());
        Watch::new(api, Arc::new(follower)).start(ground, tasks).listing
    };
    [CertificateCluster::Source].into_iter().chain(other_home(ground)).map(at).collect()
}
