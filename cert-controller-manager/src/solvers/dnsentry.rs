//! DNS-01 with `DNSEntry`: a DNS controller publishes the records.
//!
//! Writes one entry for each challenge name and owner to the dns cluster, and deletes it afterwards. Reads
//! the state of entries from the cache [`Entries`], and queries the DNS with [`Propagation`].
//!
//! The state in memory is an optimization. After a restart, the cache and the values are sufficient.

mod applied;
mod call;
mod entries;
mod entry_state;
mod name;
mod render;
mod settings;

pub use entries::Entries;
pub use settings::Settings;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use cert_lib::{
    clock::Clock,
    model::name::DnsName,
    net::Resolver,
    solve::{
        Owner, Proof, Readiness, SolveError, Solver,
        dns01::{DelegationError, Propagation, PropagationWaits},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use tokio::sync::watch;

use self::{
    applied::Applied,
    call::{CallError, with_deadline},
    entry_state::{EntryState, entry_state},
    render::render,
};
use super::entry::SolverEntry;
use crate::{
    api::{CertificateKey, ObjectKey, dnsentry::DNSEntry},
    runtime::watch::Availability,
};

/// See the [module](self). Clones share the state.
#[derive(Clone)]
pub struct DnsEntrySolver {
    client: Client,
    entries: Arc<Entries>,
    resolver: Arc<dyn Resolver>,
    propagation: Arc<Propagation>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    waits: Arc<PropagationWaits>,
    applied: Arc<Mutex<HashMap<Owner, HashMap<ObjectKey, Applied>>>>,
}

impl DnsEntrySolver {
    /// A solver that writes with `client` to the cluster that `entries` caches.
    #[must_use]
    pub fn new(
        client: Client,
        entries: Arc<Entries>,
        resolver: Arc<dyn Resolver>,
        propagation: Arc<Propagation>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let waits = Arc::new(PropagationWaits::new(clock.clone()));
        let applied = Arc::default();
        Self { client, entries, resolver, propagation, clock, settings, waits, applied }
    }

    /// The same solver with another propagation check.
    #[must_use]
    pub fn with_propagation(&self, propagation: Arc<Propagation>) -> Self {
        Self { propagation, ..self.clone() }
    }

    /// The key of the entry for `fqdn`. The name contains the owner, because two Certificates may have
    /// challenges for the same name. With a shared entry, each would remove the value of the other one.
    fn key(&self, owner: &Owner, fqdn: &DnsName) -> ObjectKey {
        let of_owner = CertificateKey::from_owner(owner).map(|key| key.object.namespace.clone());
        let namespace = self.settings.namespace.clone().or(of_owner).unwrap_or_default();
        let class = self.settings.class.as_deref().unwrap_or_default();
        let realm = &self.settings.realm;
        // An order of an older version keeps its entry, because a second one would conflict.
        let older = name::of_older(owner, realm, class, fqdn);
        let older = ObjectKey { namespace, name: older };
        if self.entries.owner(&older).as_ref() == Some(owner) {
            return older;
        }
        ObjectKey { name: name::of_entry(owner, realm, class, fqdn), ..older }
    }

    /// Whether the entry does not exist or belongs to `owner`.
    fn may_write(&self, owner: &Owner, key: &ObjectKey) -> bool {
        self.entries.owner(key).is_none_or(|other| other == *owner)
    }

    async fn apply(&self, owner: &Owner, proof: &Proof) -> Result<(), SolveError> {
        let (fqdn, values) = proof.require_txt()?;
        let key = self.key(owner, fqdn);
        if !self.may_write(owner, &key) {
            return Err(SolveError::Misconfigured(format!(
                "DNSEntry {key} belongs to another Certificate: rename this one"
            )));
        }
        let entry = render(&key, owner, &self.settings, fqdn, values);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api: Api<DNSEntry> = Api::namespaced(self.client.clone(), &key.namespace);
        let call = async { api.patch(&key.name, &params, &Patch::Apply(&entry)).await };
        let applied = with_deadline(call).await.map_err(|error| error.explain("patch", &key))?;
        let applied = Applied {
            uid: applied.uid().unwrap_or_default(),
            generation: applied.metadata.generation.unwrap_or_default(),
            at: self.clock.now(),
        };
        let before =
            self.all_applied().entry(owner.clone()).or_default().insert(key, applied.clone());
        let same = |b: Applied| b.uid == applied.uid && b.generation == applied.generation;
        if !before.is_some_and(same) {
            self.waits.restart(owner);
        }
        Ok(())
    }

    async fn delete_all(&self, keys: Vec<ObjectKey>) -> Result<(), SolveError> {
        let deletions = stream::iter(keys).map(|key| self.delete(key)).buffer_unordered(PARALLEL);
        deletions.fold(Ok(()), |all, one| async { all.and(one) }).await
    }

    async fn delete(&self, key: ObjectKey) -> Result<(), SolveError> {
        let api: Api<DNSEntry> = Api::namespaced(self.client.clone(), &key.namespace);
        let call = async { api.delete(&key.name, &DeleteParams::default()).await };
        match with_deadline(call).await {
            Ok(_) | Err(CallError::Kube(kube::Error::Api(_), 404)) => Ok(()),
            Err(error) => Err(error.explain("delete", &key)),
        }
    }

    /// The reason why the entry of `proof` is not published, if any. An entry that another client deleted or
    /// changed is written again, after a delay for the cache to receive our own write.
    async fn blocking_error(
        &self,
        owner: &Owner,
        proof: &Proof,
    ) -> Result<Option<String>, SolveError> {
        let (fqdn, values) = proof.require_txt()?;
        let key = self.key(owner, fqdn);
        let applied = self.applied(owner, &key);
        let entry = entry_state(
            &key,
            self.entries.availability_now(),
            self.entries.find(&key).as_ref(),
            applied.as_ref(),
            &name::of_content(fqdn.as_str(), values),
        );
        match entry {
            EntryState::Published => Ok(None),
            EntryState::Pending(why) | EntryState::Unknown(why) => Ok(Some(why)),
            EntryState::NotApplied(why) => {
                let age = |applied: Applied| self.clock.now().duration_since(applied.at);
                if applied.map(age).is_none_or(|age| age >= CACHE_LAG) {
                    self.apply(owner, proof).await?;
                }
                Ok(Some(why))
            }
        }
    }

    /// All known entries of `owner`: in the cache, and in state until the cache has them.
    fn keys_of(&self, owner: &Owner) -> Vec<ObjectKey> {
        let all = self.all_applied();
        let applied = all.get(owner).into_iter().flat_map(HashMap::keys);
        applied.cloned().chain(self.entries.of_owner(owner)).collect()
    }

    fn applied(&self, owner: &Owner, key: &ObjectKey) -> Option<Applied> {
        self.all_applied().get(owner)?.get(key).cloned()
    }

    fn forget(&self, owner: &Owner) {
        self.waits.remove(owner);
        self.all_applied().remove(owner);
    }

    fn all_applied(&self) -> MutexGuard<'_, HashMap<Owner, HashMap<ObjectKey, Applied>>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SolverEntry for DnsEntrySolver {
    fn unavailable(&self) -> Option<String> {
        if self.settings.use_dnsrecords {
            return Some(
                "DNSRecords are not supported in this version: start the manager without --use-dnsrecords"
                    .to_owned(),
            );
        }
        match self.entries.availability_now() {
            Availability::Present => None,
            Availability::Unknown => Some("the dns cluster has not answered yet".to_owned()),
            Availability::Absent => Some(
                "the dns cluster has no DNSEntry resource (dns.gardener.cloud/v1alpha1): install \
                 its CRD together with a dns-controller-manager or with --answer-dns"
                    .to_owned(),
            ),
            Availability::Denied => Some(
                "the manager may not list and watch DNSEntries (dns.gardener.cloud) in the dns \
                 cluster: grant it the role for that cluster"
                    .to_owned(),
            ),
        }
    }

    fn changes(&self) -> Option<watch::Receiver<Availability>> {
        Some(self.entries.availability())
    }

    fn solver(&self, propagation: Option<&Arc<Propagation>>) -> Arc<dyn Solver> {
        Arc::new(match propagation {
            Some(propagation) => self.with_propagation(propagation.clone()),
            None => self.clone(),
        })
    }

    async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        let keys = self.entries.of_owner(owner);
        if !keys.is_empty() {
            self.delete_all(keys).await?;
            self.forget(owner);
        }
        Ok(())
    }
}

#[async_trait]
impl Solver for DnsEntrySolver {
    async fn follow(&self, _: &Owner, challenge: &DnsName) -> Result<DnsName, SolveError> {
        let followed = self.propagation.follow(self.resolver.as_ref(), challenge).await;
        followed.map_err(DelegationError::into_solve_error)
    }

    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        proofs.iter().try_for_each(|proof| proof.require_txt().map(drop))?;
        let calls: Vec<_> = proofs.iter().map(|proof| self.apply(owner, proof)).collect();
        stream::iter(calls).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        for proof in proofs {
            if let Some(why) = self.blocking_error(owner, proof).await? {
                return Ok(self.waits.not_published(owner, why).into());
            }
        }
        let (propagation, resolver) = (self.propagation.as_ref(), self.resolver.as_ref());
        let wait = self.settings.additional_wait;
        Ok(self.waits.check(owner, proofs, propagation, resolver, wait).await.into())
    }

    fn propagation_timeout(
        &self,
        _: &Owner,
        _: &[Proof],
        default: SignedDuration,
    ) -> SignedDuration {
        self.propagation.timeout(default)
    }

    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        let txt = || proofs.iter().filter_map(Proof::txt);
        let mut keys: BTreeSet<ObjectKey> = txt().map(|(fqdn, _)| self.key(owner, fqdn)).collect();
        // Without values, the targets of CNAMEs are unknown, too. An owner has one order at a time, so
        // delete all its entries.
        if txt().any(|(_, values)| values.is_empty()) {
            keys.extend(self.keys_of(owner));
        }
        let own = keys.into_iter().filter(|key| self.may_write(owner, key));
        self.delete_all(own.collect()).await?;
        self.forget(owner);
        Ok(())
    }
}

/// Field manager of server-side apply.
const FIELD_MANAGER: &str = "cert-controller-manager";
/// Maximum number of concurrent calls for one owner: a certificate may have a hundred names.
const PARALLEL: usize = 8;
/// Maximum delay of the cache after our own write.
const CACHE_LAG: SignedDuration = SignedDuration::from_secs(5);

#[cfg(test)]
mod tests;
