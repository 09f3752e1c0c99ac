//! DNS-01 by `DNSEntry`: somebody else's DNS controller publishes what we write into its resource.
//!
//! Writes one entry per challenge name and owner to the dns cluster, and deletes it again. Reads the
//! entries' states from the index [`Entries`], and the DNS itself through
//! [`Propagation`].
//!
//! What is remembered in memory only makes looks sharper: after a restart the index and the values
//! say enough to go on.

mod call;
mod entries;
mod entry_state;
mod name;
mod render;

pub use entries::Entries;

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
        dns01::{DelegationError, Propagation, Visibility, additional_wait},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};

use self::{
    call::{Fault, within},
    entry_state::{EntryState, entry_state},
    render::render,
};
use crate::api::{CertificateKey, ObjectKey, Realm, dnsentry::DNSEntry};

/// How entries are written and looked at.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where entries are made; the owner's namespace when unset (`--dns-namespace`).
    pub namespace: Option<String>,
    /// Class of the DNS controller (`--dns-class`).
    pub class: Option<String>,
    /// Whose entries they are, among several managers.
    pub realm: Realm,
    /// Value of `spec.ownerId`, which old DNS controllers look at (`--dns-owner-id`).
    pub owner_id: Option<String>,
    /// TTL of the records in seconds.
    pub ttl: i64,
    /// How long to wait after the values were first seen (`--precheck-additional-wait`).
    pub additional_wait: Option<SignedDuration>,
}

/// Proves names by entries for another controller. Clones are the same solver.
#[derive(Clone)]
pub struct DnsEntrySolver {
    client: Client,
    entries: Arc<Entries>,
    resolver: Arc<dyn Resolver>,
    propagation: Arc<Propagation>,
    clock: Arc<dyn Clock>,
    settings: Settings,
    memory: Arc<Mutex<HashMap<Owner, AppliedEntries>>>,
}

/// What this process did and saw for one owner.
#[derive(Clone, Debug, Default)]
struct AppliedEntries {
    applied: HashMap<ObjectKey, Applied>,
    /// When `ready` was first asked.
    first_look: Option<Timestamp>,
    /// When everybody was first seen to have the values.
    first_sight: Option<Timestamp>,
}

/// The version of an entry that holds our values.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Applied {
    uid: String,
    generation: i64,
    at: Timestamp,
}

impl DnsEntrySolver {
    /// A solver that writes with `client`, which is for the cluster that `entries` follows.
    #[must_use]
    pub fn new(
        client: Client,
        entries: Arc<Entries>,
        resolver: Arc<dyn Resolver>,
        propagation: Arc<Propagation>,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Self {
        let memory = Arc::default();
        Self { client, entries, resolver, propagation, clock, settings, memory }
    }

    /// The same solver, which looks at other name servers.
    #[must_use]
    pub fn looking_with(&self, propagation: Arc<Propagation>) -> Self {
        Self { propagation, ..self.clone() }
    }

    /// Deletes every entry of `owner` that the index knows, for example after a crash.
    ///
    /// # Errors
    /// When an entry could not be deleted. The others are tried all the same.
    pub async fn sweep(&self, owner: &Owner) -> Result<(), SolveError> {
        self.delete_all(self.entries.of_owner(owner)).await?;
        self.memory().remove(owner);
        Ok(())
    }

    /// Where the entry for `fqdn` is. The owner is a part of the name, because two Certificates may
    /// prove the same name at the same time: with one entry for both, each would take away the
    /// value that the other one's CA is about to look for.
    fn key(&self, owner: &Owner, fqdn: &DnsName) -> ObjectKey {
        let of_owner = CertificateKey::from_owner(owner).map(|key| key.object.namespace);
        let namespace = self.settings.namespace.clone().or(of_owner).unwrap_or_default();
        let class = self.settings.class.as_deref().unwrap_or_default();
        let realm = &self.settings.realm;
        // An order that an older version began goes on with its entry: two would be two records.
        let older = name::of_older(owner, realm, class, fqdn);
        let older = ObjectKey { namespace, name: older };
        if self.entries.owner(&older).as_ref() == Some(owner) {
            return older;
        }
        ObjectKey { name: name::of_entry(owner, realm, class, fqdn), ..older }
    }

    /// Whose entry is there is not only a matter of its name.
    fn may_touch(&self, owner: &Owner, key: &ObjectKey) -> bool {
        self.entries.owner(key).is_none_or(|other| other == *owner)
    }

    async fn apply(&self, owner: &Owner, proof: &Proof) -> Result<(), SolveError> {
        let Proof::Txt { fqdn, values } = proof;
        let key = self.key(owner, fqdn);
        if !self.may_touch(owner, &key) {
            return Err(SolveError::Misconfigured(format!(
                "DNSEntry {key} belongs to another Certificate: rename this one"
            )));
        }
        let entry = render(&key, owner, &self.settings, fqdn, values);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let api: Api<DNSEntry> = Api::namespaced(self.client.clone(), &key.namespace);
        let call = async { api.patch(&key.name, &params, &Patch::Apply(&entry)).await };
        let applied = within(call).await.map_err(|fault| fault.explain("patch", &key))?;
        let applied = Applied {
            uid: applied.uid().unwrap_or_default(),
            generation: applied.metadata.generation.unwrap_or_default(),
            at: self.clock.now(),
        };
        let mut memory = self.memory();
        let memory = memory.entry(owner.clone()).or_default();
        let before = memory.applied.insert(key, applied.clone());
        let same = |b: Applied| b.uid == applied.uid && b.generation == applied.generation;
        if !before.is_some_and(same) {
            memory.first_look = None;
            memory.first_sight = None;
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
        match within(call).await {
            Ok(_) | Err(Fault::Kube(kube::Error::Api(_), 404)) => Ok(()),
            Err(fault) => Err(fault.explain("delete", &key)),
        }
    }

    /// What keeps the entry of `proof` from being published, if anything does. An entry that was
    /// deleted or altered by somebody else is written again, but not while the index may simply not
    /// have heard of our own write.
    async fn blocking_error(
        &self,
        owner: &Owner,
        proof: &Proof,
    ) -> Result<Option<String>, SolveError> {
        let Proof::Txt { fqdn, values } = proof;
        let key = self.key(owner, fqdn);
        let applied = self.applied(owner, &key);
        let standing = entry_state(
            &key,
            self.entries.availability_now(),
            self.entries.find(&key).as_ref(),
            applied.as_ref(),
            &name::of_content(fqdn.as_str(), values),
        );
        match standing {
            EntryState::Published => Ok(None),
            EntryState::Pending(why) | EntryState::Unknown(why) => Ok(Some(why)),
            EntryState::NotOurs(why) => {
                let age = |applied: Applied| self.clock.now().duration_since(applied.at);
                if applied.map(age).is_none_or(|age| age >= INDEX_LAG) {
                    self.apply(owner, proof).await?;
                }
                Ok(Some(why))
            }
        }
    }

    /// Where everything is that was ever published for `owner`, as far as anybody knows: in the index
    /// after a crash, in memory until the index has heard of it.
    fn keys_of(&self, owner: &Owner) -> Vec<ObjectKey> {
        let memory = self.memory();
        let applied = memory.get(owner).into_iter().flat_map(|memory| memory.applied.keys());
        applied.cloned().chain(self.entries.of_owner(owner)).collect()
    }

    fn applied(&self, owner: &Owner, key: &ObjectKey) -> Option<Applied> {
        self.memory().get(owner)?.applied.get(key).cloned()
    }

    /// When to look again if nothing wakes us: soon at first, then ever more rarely.
    fn look_again(&self, owner: &Owner) -> SignedDuration {
        let now = self.clock.now();
        let mut memory = self.memory();
        let first = *memory.entry(owner.clone()).or_default().first_look.get_or_insert(now);
        (now.duration_since(first) / 4).clamp(SOONEST_LOOK, LATEST_LOOK)
    }

    /// How much of the additional wait is left after the values were seen by now.
    fn left_to_wait(&self, owner: &Owner, authoritative: bool) -> SignedDuration {
        let now = self.clock.now();
        let mut memory = self.memory();
        let first = *memory.entry(owner.clone()).or_default().first_sight.get_or_insert(now);
        let wait = additional_wait(self.settings.additional_wait, authoritative);
        wait.saturating_sub(now.duration_since(first))
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<Owner, AppliedEntries>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Solver for DnsEntrySolver {
    async fn follow(&self, challenge: &DnsName) -> Result<DnsName, SolveError> {
        let followed = self.propagation.follow(self.resolver.as_ref(), challenge).await;
        followed.map_err(|error| match error {
            DelegationError::Unknown { .. } => SolveError::Unavailable(error.to_string()),
            DelegationError::Loop(_)
            | DelegationError::TooLong { .. }
            | DelegationError::Wildcard { .. } => SolveError::Misconfigured(error.to_string()),
        })
    }

    async fn present(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        let calls: Vec<_> = proofs.iter().map(|proof| self.apply(owner, proof)).collect();
        stream::iter(calls).buffer_unordered(PARALLEL).try_collect().await
    }

    async fn ready(&self, owner: &Owner, proofs: &[Proof]) -> Result<Readiness, SolveError> {
        let not_yet = |why| Readiness::NotYet { why, look_again: self.look_again(owner) };
        for proof in proofs {
            if let Some(why) = self.blocking_error(owner, proof).await? {
                return Ok(not_yet(why));
            }
        }
        let looks: Vec<_> = proofs
            .iter()
            .map(|Proof::Txt { fqdn, values }| {
                self.propagation.check(self.resolver.as_ref(), fqdn, values)
            })
            .collect();
        let mut looks = stream::iter(looks).buffer_unordered(PARALLEL);
        let mut all_authoritative = true;
        while let Some(sight) = looks.next().await {
            match sight {
                Visibility::Seen { authoritative } => all_authoritative &= authoritative,
                Visibility::NotSeen { why } => {
                    self.memory().entry(owner.clone()).or_default().first_sight = None;
                    return Ok(not_yet(why));
                }
            }
        }
        let left = self.left_to_wait(owner, all_authoritative);
        if left <= SignedDuration::ZERO {
            return Ok(Readiness::Ready);
        }
        let why = format!("the values are visible; waiting {} s more", left.as_secs().max(1));
        Ok(Readiness::NotYet { why, look_again: left })
    }

    async fn cleanup(&self, owner: &Owner, proofs: &[Proof]) -> Result<(), SolveError> {
        let of_proof = |Proof::Txt { fqdn, .. }: &Proof| self.key(owner, fqdn);
        let mut keys: BTreeSet<ObjectKey> = proofs.iter().map(of_proof).collect();
        // Where values were forgotten, so was where a CNAME led. An owner has one order at a time.
        if proofs.iter().any(|Proof::Txt { values, .. }| values.is_empty()) {
            keys.extend(self.keys_of(owner));
        }
        let own = keys.into_iter().filter(|key| self.may_touch(owner, key));
        self.delete_all(own.collect()).await?;
        self.memory().remove(owner);
        Ok(())
    }
}

/// Who the fields belong to in server-side apply.
const FIELD_MANAGER: &str = "cert-controller-manager";
/// How many calls run at once for one owner: a certificate may have a hundred names.
const PARALLEL: usize = 8;
/// How long the index may take to hear of our own write.
const INDEX_LAG: SignedDuration = SignedDuration::from_secs(5);
const SOONEST_LOOK: SignedDuration = SignedDuration::from_secs(1);
const LATEST_LOOK: SignedDuration = SignedDuration::from_secs(15);

#[cfg(test)]
mod tests;
