//! What is started once: the controllers are put together and everything is followed, while we wait
//! for our [`Turn`].

use std::{convert::Infallible, sync::Arc};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    leadership::LeaderTerm,
    watches::{self, IssuerLists},
    wiring::{self, Identity, Issuing},
};
use crate::{
    answer,
    api::{CertificateKey, IssuerKey},
    runtime::{
        clusters::{Clusters, Role},
        identity::identify,
        lease_thread::Candidate,
        tasks::Tasks,
    },
    solvers::deferred::DeferredSolver,
};

/// Puts everything together, follows everything, and leads when it is our turn.
pub(super) async fn start(
    ground: Context,
    candidate: Option<Candidate>,
    tasks: &mut Tasks,
) -> anyhow::Result<Infallible> {
    let late = Arc::new(DeferredSolver::new(
        ground.settings.dns.nameservers.clone(),
        ground.settings.address_policy.clone(),
    ));
    let (changed, changed_issuers) = mpsc::unbounded_channel();
    let issuers = ground.settings.controllers.issuer;
    let issuers = match issuers.then(|| wiring::issuers(&ground, late.clone(), changed, tasks)) {
        Some(issuers) => Some(Arc::new(issuers?)),
        None => None,
    };
    let issuer_lists = match &issuers {
        Some(issuers) => watches::issuers(&ground, issuers, tasks),
        None => IssuerLists::default(),
    };
    let mut turn = LeaderTerm::new(&ground, candidate);
    // Issuers need the default cluster only; for all else it must be known which cluster is which.
    let identity = {
        let identify = identify_both(&ground);
        tokio::pin!(identify);
        tokio::select! {
            identity = &mut identify => identity,
            led = turn.take(tasks) => {
                led?;
                if let Some(issuers) = &issuers {
                    turn.issuers(issuers, &issuer_lists, tasks);
                }
                identify.await
            }
        }
    };
    check(&identity, &ground.clusters)?;
    let mut issuing = match &issuers {
        Some(issuers) => Some(wiring::issuing(&ground, &identity, issuers, &late, tasks).await?),
        None => None,
    };
    let sources = wiring::sources(&ground, &identity, tasks);
    let lists = watches::issuing(&ground, issuing.as_ref(), &sources, tasks);
    watches::sources(&ground, &sources, tasks);
    let revocation_lists = watches::revocations(&ground, issuing.as_ref(), tasks);
    ground.admin.readiness.complete();
    answer(&ground, tasks);
    if let Some(issuing) = &mut issuing {
        ground.metrics.count_with(issuing.certificates.clone());
        wake(issuing, changed_issuers, tasks);
    }

    turn.take(tasks).await?;
    if let Some(issuers) = &issuers {
        turn.issuers(issuers, &issuer_lists, tasks);
    }
    turn.sources(&sources, &lists, tasks);
    if let Some(issuing) = &issuing {
        turn.certificates(issuing, lists, &issuer_lists, tasks).await;
        turn.revocations(issuing, revocation_lists, tasks);
    }
    // From here on everything happens in tasks.
    std::future::pending().await
}

async fn identify_both(ground: &Context) -> Identity {
    let (clusters, settings) = (&ground.clusters, &ground.settings.clusters);
    let source = identify(clusters, settings, Role::Source).await;
    let target = if clusters.target_is_source() {
        source.clone()
    } else {
        identify(clusters, settings, Role::Target).await
    };
    Identity { source, target }
}

/// One cluster under two addresses would have two of everything.
fn check(identity: &Identity, clusters: &Clusters) -> anyhow::Result<()> {
    anyhow::ensure!(
        clusters.target_is_source() || identity.source.id != identity.target.id,
        "--source and --target are the same cluster ({}) under two addresses: give both the same \
         kubeconfig, or tell them apart by --source.id and --target.id",
        identity.source.id
    );
    Ok(())
}

/// The responder in this process. Where it cannot run, the manager does not.
fn answer(ground: &Context, tasks: &mut Tasks) {
    let Some(answer) = ground.settings.answer.clone() else { return };
    let options = answer::Options {
        listen: answer.listen,
        zones: answer.zones,
        class: ground.settings.dns.class.clone().unwrap_or_default(),
        namespace: ground.settings.dns.namespace.clone(),
        addresses: answer.addresses,
    };
    let client = ground.clusters.dns.0.clone();
    tasks.try_run("DNS responder", async move {
        Ok(answer::run(options, client, CancellationToken::new()).await?)
    });
}

/// Brings together what controllers tell each other.
fn wake(
    issuing: &mut Issuing,
    mut changed_issuers: mpsc::UnboundedReceiver<IssuerKey>,
    tasks: &mut Tasks,
) {
    let (_, none) = mpsc::unbounded_channel();
    let mut owners = std::mem::replace(&mut issuing.owners, none);
    let mut availability = issuing.entries.availability();
    let certificates = issuing.certificates.clone();
    let revocations = issuing.revocations.clone();
    tasks.try_run("waking of Certificates", async move {
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
                changed = availability.changed() => {
                    changed?;
                    certificates.challenges_changed();
                }
            }
        }
    });
}
