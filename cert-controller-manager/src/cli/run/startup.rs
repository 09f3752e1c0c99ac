//! Starts the process: creates the controllers and starts all watches while it waits for its
//! [`LeaderTerm`].

use std::{convert::Infallible, pin::pin, sync::Arc};

use futures::StreamExt;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;

use super::{
    context::Context,
    leadership::LeaderTerm,
    watches::{self, IssuerLists},
    wiring::{self, Identity, Issuing},
};
use crate::{
    answer,
    api::{CertificateKey, IssuerKey},
    issuers::controller::Controller as Issuers,
    runtime::{
        clusters::Clusters, identity::identify, lease_thread::Candidate, role::Role, tasks::Tasks,
    },
};

/// Starts controllers and watches, and the workers when this process leads. Returns only with an error.
pub(super) async fn start(
    context: Context,
    candidate: Option<Candidate>,
    tasks: &mut Tasks,
) -> anyhow::Result<Infallible> {
    let (changed, changed_issuers) = mpsc::unbounded_channel();
    let issuers = issuers(&context, changed, tasks)?;
    let mut term = LeaderTerm::new(&context, candidate);
    let identity = identify_clusters(&context, &mut term, issuers.as_ref(), tasks).await?;
    let issuing =
        issuers.as_ref().map(|(issuers, _)| wiring::issuing(&context, &identity, issuers, tasks));
    let mut issuing = issuing.transpose()?;
    let sources = wiring::sources(&context, &identity, tasks);
    let lists = watches::issuing(&context, issuing.as_ref(), &sources, tasks);
    watches::sources(&context, &sources, tasks);
    let revocation_lists = watches::revocations(&context, issuing.as_ref(), tasks);
    context.admin.readiness.complete();
    answer(&context, tasks);
    if let Some(issuing) = &mut issuing {
        context.metrics.set_inventory(issuing.certificates.clone());
        forward_changes(issuing, changed_issuers, tasks);
    }

    term.begin(tasks).await?;
    if let Some((issuers, issuer_lists)) = &issuers {
        term.issuers(issuers, issuer_lists, tasks);
    }
    term.sources(&sources, &lists, tasks);
    if let (Some(issuing), Some((_, issuer_lists))) = (&issuing, &issuers) {
        term.certificates(issuing, lists, issuer_lists, tasks).await;
        term.revocations(issuing, revocation_lists, tasks);
    }
    // All work happens in tasks now.
    std::future::pending().await
}

/// Creates the issuer controller and starts its watches, if it is enabled.
fn issuers(
    context: &Context,
    changed: UnboundedSender<IssuerKey>,
    tasks: &mut Tasks,
) -> anyhow::Result<Option<(Arc<Issuers>, IssuerLists)>> {
    if !context.settings.controllers.issuer {
        return Ok(None);
    }
    let issuers = Arc::new(wiring::issuers(context, wiring::solvers(), changed, tasks)?);
    let lists = watches::issuers(context, &issuers, tasks);
    let solvers = issuers.solvers.clone();
    tasks.run("records to remove", async move { solvers.leftovers.run().await });
    Ok(Some((issuers, lists)))
}

/// Waits for the ids of the clusters. If the term begins in the meantime, the issuer controller runs:
/// it needs only the default cluster. All other controllers need the ids.
async fn identify_clusters(
    context: &Context,
    term: &mut LeaderTerm<'_>,
    issuers: Option<&(Arc<Issuers>, IssuerLists)>,
    tasks: &mut Tasks,
) -> anyhow::Result<Identity> {
    let mut identify = pin!(identify_both(context));
    let identity = tokio::select! {
        identity = &mut identify => identity,
        result = term.begin(tasks) => {
            result?;
            if let Some((issuers, lists)) = issuers {
                term.issuers(issuers, lists, tasks);
            }
            identify.await
        }
    };
    check(&identity, &context.clusters)?;
    Ok(identity)
}

async fn identify_both(context: &Context) -> Identity {
    let (clusters, settings) = (&context.clusters, &context.settings.clusters);
    let source = identify(clusters, settings, Role::Source).await;
    let target = if clusters.target_is_source() {
        source.clone()
    } else {
        identify(clusters, settings, Role::Target).await
    };
    Identity { source, target }
}

/// Refuses one cluster with two addresses, because its objects would be managed twice.
fn check(identity: &Identity, clusters: &Clusters) -> anyhow::Result<()> {
    anyhow::ensure!(
        clusters.target_is_source() || identity.source.id != identity.target.id,
        "--source and --target are the same cluster ({}) with two addresses: use the same \
         kubeconfig for both, or set different ids with --source.id and --target.id",
        identity.source.id
    );
    Ok(())
}

/// Starts the embedded responder. If it fails, the process ends.
fn answer(context: &Context, tasks: &mut Tasks) {
    let Some(server) = context.settings.answer.clone() else { return };
    let table = answer::table(&server.zones, &[answer::Origin::Entries]);
    let options = answer::Options {
        server,
        class: context.settings.dns.class.clone().unwrap_or_default(),
        namespace: context.settings.dns.namespace.clone(),
    };
    let client = context.clusters.dns.0.clone();
    let metrics = context.metrics.clone();
    tasks.try_run("DNS responder", async move {
        Ok(answer::run(options, table, client, metrics, CancellationToken::new()).await?)
    });
}

/// Forwards changes of issuers, solvers and published proofs to the queues of other controllers.
fn forward_changes(
    issuing: &mut Issuing,
    mut changed_issuers: UnboundedReceiver<IssuerKey>,
    tasks: &mut Tasks,
) {
    let (_, none) = mpsc::unbounded_channel();
    let mut owners = std::mem::replace(&mut issuing.owners, none);
    let mut solvers = issuing.certificates.solvers.changes();
    let certificates = issuing.certificates.clone();
    let revocations = issuing.revocations.clone();
    tasks.try_run("changes of issuers and solvers", async move {
        loop {
            tokio::select! {
                Some(owner) = owners.recv() => {
                    let key = CertificateKey::from_owner(&owner);
                    key.into_iter().for_each(|key| certificates.queue.push(key));
                }
                Some(key) = changed_issuers.recv() => {
                    certificates.issuer_changed(&key);
                    revocations.issuer_changed();
                }
                Some(()) = solvers.next() => certificates.solvers_changed(),
                else => anyhow::bail!("issuers and solvers ended"),
            }
        }
    });
}
