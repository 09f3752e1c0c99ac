//! Creates the controllers and their shared components.

use std::sync::Arc;

use cert_lib::{
    issue::acme::Timing,
    model::scope::Ranges,
    net::{
        Http, Resolver,
        dns::Udp,
        doh::Doh,
        http::{HttpsClient, Route},
        reach::AddressPolicy,
    },
    plan::Policy,
    solve::dns01::Propagation,
};
use kube::Client;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::context::Context;
use crate::{
    api::{ClusterId, ClusterIdentities, IssuerKey, Realm, issuer::SolverKind},
    certificates::{
        admission::Admission, controller::Controller as Certificates, index::Index,
        listed_clusters::ListedClusters, order_claims::OrderClaims, progress::ProgressStore,
        record::CertificateRecords, renewals::Renewals, secret::cache::Secrets,
        secret_grant::SecretGrants,
    },
    config::SourceSettings,
    issuers::{
        controller::Controller as Issuers, limits::CaRegistry, nameservers::Precheck,
        record::IssuerRecords, registry::Registry, selection::Rules,
    },
    revocations::{controller::Controller as Revocations, index::Index as RevocationIndex},
    runtime::{
        certificate_clusters::{CertificateClusters, ClusterHandle},
        events::EventRecorder,
        fence::outbound::FencedHttp,
        keys::KeyPool,
        metrics::calls::{CountedHttp, CountedResolver},
        queue::Queue,
        store::Stores,
        tasks::Tasks,
    },
    solvers::{
        dns_server::DnsServers,
        dnsentry::{self, DnsEntrySolver, Entries},
        registry::SolverRegistry,
        skip::Skip,
    },
    sources::{self, controller::Sources, key::Kind, kinds::KINDS},
};

/// The ids of the clusters.
pub(super) struct Identity {
    pub(super) source: ClusterId,
    pub(super) target: ClusterId,
}

/// The controllers of Certificates and CertificateRevocations.
pub(super) struct Issuing {
    pub(super) certificates: Arc<Certificates>,
    pub(super) revocations: Arc<Revocations>,
    pub(super) entries: Arc<Entries>,
    /// Receives owners of changed challenge entries.
    pub(super) owners: UnboundedReceiver<cert_lib::solve::Owner>,
}

/// Creates an event recorder for the cluster of `client`, and starts its task.
fn event_recorder(client: Client, tasks: &mut Tasks) -> EventRecorder {
    let (recorder, publish) = EventRecorder::new(client);
    tasks.run("events", publish);
    recorder
}

/// The solvers that need no cluster. [`issuing`] adds the others.
pub(super) fn solvers() -> Arc<SolverRegistry> {
    let solvers = SolverRegistry::default();
    solvers.add(SolverKind::Skip, Arc::new(Skip));
    Arc::new(solvers)
}

/// Creates the issuer controller. It needs only the default cluster.
pub(super) fn issuers(
    context: &Context,
    solvers: Arc<SolverRegistry>,
    changed: UnboundedSender<IssuerKey>,
    tasks: &mut Tasks,
) -> anyhow::Result<Issuers> {
    let settings = &context.settings;
    let queue = Arc::new(Queue::default());
    let rules = Rules {
        namespace: settings.issuers.namespace.clone(),
        default_issuer: settings.issuers.default_issuer.clone(),
        default_ranges: Ranges::new(&settings.issuers.default_ranges),
        allow_target: settings.issuers.allow_target_issuers,
    };
    let target = settings.issuers.allow_target_issuers.then(|| context.clusters.target.clone());
    let target_events = target.as_ref().map(|target| event_recorder(target.0.clone(), tasks));
    let policy = Arc::new(settings.address_policy.clone());
    Ok(Issuers {
        cluster: context.clusters.default.clone(),
        namespace: settings.issuers.namespace.clone(),
        target,
        default_quota: settings.issuers.requests_per_day.into(),
        limits: CaRegistry::new(settings.issuers.acme_limits),
        classes: settings.issuers.classes.clone(),
        registry: Arc::new(Registry::new(rules, queue.clone())),
        http: http(context, None)?,
        tenants_http: http(context, Some(policy.clone()))?,
        clock: context.clock.clone(),
        keys: Arc::new(KeyPool::default()),
        solvers,
        dns_servers: dns_servers(context, policy.clone())?,
        precheck: Precheck { nameservers: settings.dns.nameservers.clone(), policy },
        timing: Timing {
            propagation_timeout: settings.dns.propagation_timeout,
            ..Timing::default()
        },
        deactivate_authorizations: settings.issuers.deactivate_authorizations,
        events: event_recorder(context.clusters.default.0.clone(), tasks),
        target_events,
        queue,
        changed,
        metrics: context.metrics.clone(),
        records: IssuerRecords::default(),
    })
}

/// Creates the HTTP client for APIs of DNS servers, which are often inside the cluster, without TLS.
fn plain_http(
    context: &Context,
    policy: Option<Arc<AddressPolicy>>,
) -> anyhow::Result<Arc<dyn Http>> {
    let route = Route { proxies: context.proxies.clone(), policy };
    let http = HttpsClient::with_route(&route, &context.settings.roots)?.permit_plain_http();
    Ok(Arc::new(FencedHttp::new(Arc::new(http), context.fence.clone())))
}

/// Creates the HTTP client for ACME servers. `policy` restricts addresses of servers that tenants choose.
fn http(context: &Context, policy: Option<Arc<AddressPolicy>>) -> anyhow::Result<Arc<dyn Http>> {
    let route = Route { proxies: context.proxies.clone(), policy };
    let http = Arc::new(HttpsClient::with_route(&route, &context.settings.roots)?);
    let http = Arc::new(CountedHttp::new(http, context.metrics.clone()));
    Ok(Arc::new(FencedHttp::new(http, context.fence.clone())))
}

/// Creates the controllers of Certificates and CertificateRevocations.
pub(super) fn issuing(
    context: &Context,
    identity: &Identity,
    issuers: &Issuers,
    tasks: &mut Tasks,
) -> anyhow::Result<Issuing> {
    let dns = &context.settings.dns;
    let realm = Realm::new(context.settings.certificates.classes.main(), &identity.source);
    let (wake, owners) = mpsc::unbounded_channel();
    let entries = Entries::new(dns.namespace.clone(), dns.class.clone(), realm.clone(), wake);
    let entries = Arc::new(entries);
    let solver = Arc::new(solver(context, &realm, entries.clone())?);
    issuers.solvers.add(SolverKind::DnsEntry, solver);
    let certificates = certificates(context, identity, realm, issuers, tasks);
    let revocations = Arc::new(revocations(context, &certificates, tasks));
    Ok(Issuing { certificates: Arc::new(certificates), revocations, entries, owners })
}

/// Creates the Certificate controller.
fn certificates(
    context: &Context,
    identity: &Identity,
    realm: Realm,
    issuers: &Issuers,
    tasks: &mut Tasks,
) -> Certificates {
    let (settings, clusters) = (&context.settings, &context.clusters);
    let queue = Arc::new(Queue::default());
    let records = CertificateRecords::default();
    let (orders_at_once, clock) = (settings.certificates.orders_at_once, context.clock.clone());
    Certificates {
        clusters: certificate_clusters(context, tasks),
        lists: ListedClusters::default(),
        cluster_identities: ClusterIdentities {
            source: identity.source.clone(),
            target: identity.target.clone(),
            one_cluster: clusters.target_is_source(),
        },
        index: Index::sharing(settings.certificates.reuse_across_namespaces),
        claims: OrderClaims::default(),
        realm: realm.clone(),
        secrets: Secrets::new(Stores::of(clusters.target.0.clone()), realm.clone()),
        secret_grants: SecretGrants::new(target_namespaces(context)),
        renewals: Renewals::new(settings.certificates.renewal_info, records.clone()),
        records,
        orders: ProgressStore::new(
            Stores::of(clusters.default.0.clone()).at(&settings.issuers.namespace),
            realm,
        ),
        admission: Admission::new(orders_at_once, clock.clone(), queue.clone()),
        issuers: issuers.registry.clone(),
        solvers: issuers.solvers.clone(),
        settings: settings.certificates.clone(),
        policy: Policy {
            renewal_window: settings.certificates.renewal_window,
            renew_before_percentage: settings.certificates.renew_before_percentage,
        },
        clock,
        metrics: context.metrics.clone(),
        queue,
    }
}

/// Creates the CertificateRevocation controller, for the clusters with Certificates.
fn revocations(context: &Context, certificates: &Certificates, tasks: &mut Tasks) -> Revocations {
    Revocations {
        clusters: certificate_clusters(context, tasks),
        target: context.clusters.target.clone(),
        cluster_identities: certificates.cluster_identities.clone(),
        issuers: certificates.issuers.clone(),
        settings: certificates.settings.clone(),
        clock: context.clock.clone(),
        index: RevocationIndex::default(),
        queue: Arc::new(Queue::default()),
    }
}

/// The clusters with Certificates, each with an event recorder for one controller.
fn certificate_clusters(context: &Context, tasks: &mut Tasks) -> CertificateClusters {
    let mut handle = |client: Client| ClusterHandle {
        events: event_recorder(client.clone(), tasks),
        certificates: Stores::of(client.clone()),
        client,
    };
    CertificateClusters {
        source: handle(context.clusters.source.0.clone()),
        target: handle(context.clusters.target.0.clone()),
    }
}

/// The namespaces that the operator configured for Secrets of generated Certificates.
fn target_namespaces(context: &Context) -> Vec<String> {
    if context.clusters.target_is_source() {
        return Vec::new();
    }
    let all = context.settings.sources.iter();
    all.filter_map(|settings| settings.target_namespace.clone()).collect()
}

/// What solvers of DNS servers share.
fn dns_servers(context: &Context, policy: Arc<AddressPolicy>) -> anyhow::Result<DnsServers> {
    let settings = &context.settings;
    let propagation = Propagation::new(settings.dns.nameservers.clone(), context.clock.clone());
    Ok(DnsServers {
        http: plain_http(context, None)?,
        tenants_http: plain_http(context, Some(policy.clone()))?,
        proxies: context.proxies.clone(),
        policy: policy.clone(),
        resolver: resolver(context)?,
        propagation: Arc::new(propagation.within(policy)),
        additional_wait: settings.dns.additional_wait,
        clock: context.clock.clone(),
        fence: context.fence.clone(),
        locks: Arc::default(),
    })
}

/// Creates the resolver of propagation checks. Name servers over HTTPS are the operator's, so no
/// address policy applies.
fn resolver(context: &Context) -> anyhow::Result<Arc<dyn Resolver>> {
    let route = Route { proxies: context.proxies.clone(), policy: None };
    let http = Arc::new(HttpsClient::with_route(&route, &context.settings.roots)?);
    let resolver = Arc::new(Doh::new(Arc::new(Udp::of_this_machine()), http));
    Ok(Arc::new(CountedResolver::new(resolver, context.metrics.clone())))
}

fn solver(
    context: &Context,
    realm: &Realm,
    entries: Arc<Entries>,
) -> anyhow::Result<DnsEntrySolver> {
    let settings = &context.settings.dns;
    let policy = Arc::new(context.settings.address_policy.clone());
    let propagation =
        Propagation::new(settings.nameservers.clone(), context.clock.clone()).within(policy);
    Ok(DnsEntrySolver::new(
        context.clusters.dns.0.clone(),
        entries,
        resolver(context)?,
        Arc::new(propagation),
        context.clock.clone(),
        dnsentry::Settings {
            namespace: settings.namespace.clone(),
            class: settings.class.clone(),
            realm: realm.clone(),
            owner_id: settings.owner_id.clone(),
            ttl: settings.propagation_timeout.as_secs().max(1),
            additional_wait: settings.additional_wait,
            use_dnsrecords: context.settings.certificates.use_dnsrecords,
        },
    ))
}

/// Creates the source controllers: one for all kinds with equal settings.
pub(super) fn sources(
    context: &Context,
    identity: &Identity,
    tasks: &mut Tasks,
) -> Vec<Arc<Sources>> {
    let enabled = &context.settings.controllers.sources;
    let mut groups: Vec<(&SourceSettings, Vec<Kind>)> = Vec::new();
    for row in KINDS.iter().filter(|row| enabled.contains(&row.controller)) {
        let settings = context.settings.sources.of(row.controller);
        match groups.iter_mut().find(|(known, _)| *known == settings) {
            Some((_, group)) => group.push(row.kind),
            None => groups.push((settings, vec![row.kind])),
        }
    }
    let clusters = sources::controller::Clusters {
        source: context.clusters.source.0.clone(),
        source_id: identity.source.clone(),
        target: (!context.clusters.target_is_source()).then(|| context.clusters.target.0.clone()),
    };
    let events = event_recorder(context.clusters.source.0.clone(), tasks);
    let one = |(settings, kinds): (&SourceSettings, Vec<Kind>)| {
        let (settings, clusters, events) = (settings.clone(), clusters.clone(), events.clone());
        Arc::new(Sources::new(&kinds, settings, clusters, events, &context.relist))
    };
    groups.into_iter().map(one).collect()
}
