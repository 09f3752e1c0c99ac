//! The watches: each kind of each cluster once, with the event handlers of all controllers.

use std::{fmt::Debug, sync::Arc};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{Api, Client, Resource, core::PartialObjectMeta, runtime::watcher};
use serde::de::DeserializeOwned;
use tokio::sync::watch::{Receiver, Sender};

use super::{context::Context, wiring::Issuing};
use crate::{
    api::{
        Certificate, CertificateCluster, CertificateRevocation, Issuer, dnsentry::DNSEntry,
        trim::trim, well_known,
    },
    certificates::watch_handlers::CertificateHandler,
    issuers::{
        controller::Controller as Issuers,
        watched::{self, Watched},
    },
    revocations::watch_handlers::RevocationHandler,
    runtime::{
        clusters::of_metadata,
        tasks::Tasks,
        watch::{self, Availability, EventHandler, FanOut, Listing, watch},
    },
    sources::controller::Sources,
};

type Shared<K> = Arc<dyn EventHandler<K> + Send + Sync>;

/// A watch to start.
struct Watch<K> {
    api: Api<K>,
    config: watcher::Config,
    handler: Shared<K>,
    availability: Arc<Sender<Availability>>,
    /// Name of the readiness condition; `None` for optional kinds.
    needed: Option<&'static str>,
}

impl<K> Watch<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default,
{
    fn new(api: Api<K>, handler: Shared<K>) -> Self {
        Self {
            api,
            config: watcher::Config::default(),
            handler,
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

    /// Starts the watch, and adds its readiness condition.
    fn start(self, context: &Context, tasks: &mut Tasks) -> ListedKind {
        let (lister, listing) = context.relist.watch();
        let availability = self.availability.subscribe();
        if let Some(what) = self.needed {
            context.admin.readiness.require_list(what, availability.clone());
        }
        tasks.run("watch", async move {
            watch(self.api, self.config, &self.handler, &self.availability, lister).await
        });
        ListedKind { listing, availability }
    }
}

/// The list of a kind, with its availability.
pub(super) struct ListedKind {
    pub(super) listing: Listing,
    availability: Receiver<Availability>,
}

impl ListedKind {
    /// Waits until the list is complete since this relist request. Unlike [`Listing::wait_since`], it also
    /// waits while the kind is denied.
    pub(super) async fn wait_complete_since(mut self, number: u64) {
        self.listing.wait_since(number).await;
        let seen = |it: &Availability| matches!(it, Availability::Present | Availability::Absent);
        if self.availability.wait_for(seen).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The lists of Issuers and of their Secrets.
#[derive(Default)]
pub(super) struct IssuerLists {
    pub(super) default: Vec<Listing>,
    pub(super) target: Vec<Listing>,
}

/// The lists that the Certificate controller waits for.
pub(super) struct IssuingLists {
    /// Certificates of the source cluster.
    pub(super) source: ListedKind,
    /// Certificates of the target cluster, if it differs.
    pub(super) target: Option<ListedKind>,
    /// Secrets, Namespaces and DNSEntries, with a deadline.
    pub(super) others: Vec<Listing>,
}

/// Watches Issuers and their Secrets.
pub(super) fn issuers(context: &Context, issuers: &Arc<Issuers>, tasks: &mut Tasks) -> IssuerLists {
    // All Secrets but progress Secrets, because a CA may use a Secret that we issued.
    let keys = format!("!{}", well_known::PROGRESS);
    let mut of = |client: &Client, namespace: Option<&str>, cluster, what| {
        let handler = Arc::new(Watched { controller: issuers.clone(), cluster });
        let issuers: Api<Issuer> = within(client, namespace);
        let issuers = Watch::new(issuers, handler.clone()).needed(what).start(context, tasks);
        let secrets: Api<PartialObjectMeta<Secret>> = within(&of_metadata(client), namespace);
        let secrets = Watch::new(secrets, handler).labels(&keys).start(context, tasks);
        vec![issuers.listing, secrets.listing]
    };
    let clusters = &context.clusters;
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

/// Watches Certificates and the objects that their controller reads.
pub(super) fn issuing(
    context: &Context,
    issuing: Option<&Issuing>,
    sources: &[Arc<Sources>],
    tasks: &mut Tasks,
) -> IssuingLists {
    let mut at = |cluster| certificates(context, issuing, sources, cluster, tasks);
    let source = at(CertificateCluster::Source);
    let target = second_cluster(context).map(at);
    let others = issuing.map_or_else(Vec::new, |it| related(context, it, tasks));
    IssuingLists { source, target, others }
}

/// The second cluster with Certificates, if any.
fn second_cluster(context: &Context) -> Option<CertificateCluster> {
    (!context.clusters.target_is_source()).then_some(CertificateCluster::Target)
}

/// Watches the Certificates of a cluster for all controllers.
fn certificates(
    context: &Context,
    issuing: Option<&Issuing>,
    sources: &[Arc<Sources>],
    cluster: CertificateCluster,
    tasks: &mut Tasks,
) -> ListedKind {
    let mut handlers: Vec<Shared<Arc<Certificate>>> = Vec::new();
    if let Some(issuing) = issuing {
        handlers.push(Arc::new(CertificateHandler::new(cluster, issuing.certificates.clone())));
        handlers.push(Arc::new(RevocationHandler::new(cluster, issuing.revocations.clone())));
    }
    for sources in sources {
        handlers.push(Arc::new(sources.owned_certificates_handler(cluster)));
    }
    let (client, what) = match cluster {
        CertificateCluster::Source => (&context.clusters.source.0, "Certificates"),
        CertificateCluster::Target => {
            (&context.clusters.target.0, "Certificates of the target cluster")
        }
    };
    let api: Api<Certificate> = Api::all(client.clone());
    Watch::new(api, Arc::new(watch::Shared(FanOut(handlers), trim)))
        .needed(what)
        .start(context, tasks)
}

/// Watches the other objects that the Certificate controller reads.
fn related(
    context: &Context,
    Issuing { certificates, entries, .. }: &Issuing,
    tasks: &mut Tasks,
) -> Vec<Listing> {
    let target = of_metadata(&context.clusters.target.0);
    let secrets: Api<PartialObjectMeta<Secret>> = Api::all(target.clone());
    let secrets = Watch::new(secrets, certificates.clone() as Shared<_>)
        .labels(&format!("{}=true", well_known::CERTIFICATE))
        .needed("Secrets")
        .start(context, tasks);
    let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(target.clone());
    let namespaces = Watch {
        availability: certificates.secret_grants.availability.clone(),
        ..Watch::new(namespaces, certificates.clone() as Shared<_>)
    };
    let dns = within::<DNSEntry>(&context.clusters.dns.0, entries.namespace());
    let dns =
        Watch { availability: entries.sender(), ..Watch::new(dns, entries.clone() as Shared<_>) };
    let others = [secrets, namespaces.start(context, tasks), dns.start(context, tasks)];
    others.map(|known| known.listing).into()
}

/// Watches source objects and routes, with a readiness condition for each kind.
pub(super) fn sources(context: &Context, sources: &[Arc<Sources>], tasks: &mut Tasks) {
    for sources in sources {
        for (kind, check) in sources.checks() {
            context.admin.readiness.require(format!("list of {kind}"), check);
        }
        for watch in sources.watches() {
            tasks.run(watch.kind, watch.run);
        }
    }
}

/// Watches CertificateRevocations. They are optional, because another deployment may manage the
/// CustomResourceDefinitions without this one.
pub(super) fn revocations(
    context: &Context,
    issuing: Option<&Issuing>,
    tasks: &mut Tasks,
) -> Vec<Listing> {
    let Some(issuing) = issuing else { return Vec::new() };
    let at = |cluster| {
        let client = match cluster {
            CertificateCluster::Source => &context.clusters.source.0,
            CertificateCluster::Target => &context.clusters.target.0,
        };
        let api: Api<CertificateRevocation> = Api::all(client.clone());
        let handler = RevocationHandler::new(cluster, issuing.revocations.clone());
        Watch::new(api, Arc::new(handler)).start(context, tasks).listing
    };
    [CertificateCluster::Source].into_iter().chain(second_cluster(context)).map(at).collect()
}
