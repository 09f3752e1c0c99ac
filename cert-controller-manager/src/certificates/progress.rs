//! The progress of running orders: in memory for this process, as Secrets in the issuer namespace of
//! the default cluster for the next one. Tenants can read neither. This process is the only writer
//! while it leads, so the Secrets are read once, at the start.

use std::{
    collections::{BTreeMap, HashMap},
    mem::{self, Discriminant},
    sync::Arc,
};

use cert_lib::{
    issue::{Phase, Progress},
    model::reason::Reason,
    plan::{Running, backoff::Backoff},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams, ObjectMeta, PatchParams},
};
use parking_lot::{Mutex, MutexGuard};

use super::admission::Permit;
use crate::{
    api::{CertificateKey, IssuerKey, Realm, time::seconds_up, well_known},
    runtime::{
        errors::brief,
        store::{Store, apply},
    },
};

const DATA: &str = "progress";

/// See the [module](self).
pub struct ProgressStore {
    api: Arc<dyn Store<Secret>>,
    realm: Realm,
    running: Mutex<HashMap<CertificateKey, Order>>,
}

/// What an order waits for: a phase, or the end of a back-off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// A phase, whatever its text says.
    Phase(Discriminant<Phase>),
    /// A failure that did not end it.
    Failure,
}

impl Cause {
    /// The order is in this phase.
    #[must_use]
    pub fn of(phase: &Phase) -> Self {
        Self::Phase(mem::discriminant(phase))
    }
}

/// One wait of a running order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    cause: Cause,
    since: Timestamp,
    is_published: bool,
}

/// A shorter wait is not worth a write.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);

/// A running order.
#[derive(Clone)]
pub struct Order {
    /// How far it is.
    pub progress: Progress,
    /// The issuer that runs it.
    pub issuer: IssuerKey,
    /// Holds its order slot, until its issuer has done its part.
    pub permit: Option<Arc<Permit>>,
    /// Why it was placed, for the metrics.
    pub reason: Reason,
    /// The wait after an error that did not end it.
    pub transient_error: Option<Backoff>,
    /// Whether the next process would find it. Otherwise it must not go on.
    pub stored: bool,
    /// The Secret that it was read from, which an earlier version may have given another name.
    pub found_in: Option<String>,
    /// What it waits for.
    pub(super) wait: Option<Wait>,
}

impl ProgressStore {
    /// The orders of one manager in Secrets of a namespace, which other managers may use, too. Call
    /// [`load`](Self::load) first.
    #[must_use]
    pub fn new(api: Arc<dyn Store<Secret>>, realm: Realm) -> Self {
        Self { api, realm, running: Mutex::default() }
    }

    /// Reads the orders of an earlier process. Returns their Certificates. Each order gets a permit by
    /// `admit`. A Secret that cannot be read stays and is reported: a newer version may have written it.
    ///
    /// # Errors
    /// When the Secrets cannot be listed.
    pub async fn load(
        &self,
        admit: impl Fn(&IssuerKey, &CertificateKey) -> Permit,
    ) -> kube::Result<Vec<CertificateKey>> {
        let params = ListParams::default().labels(&format!("{}=true", well_known::PROGRESS));
        let mut found = Vec::new();
        self.lock().clear();
        for secret in self.api.list(&params).await? {
            let name = secret.name_any();
            let realm = secret.annotations().get(well_known::PROGRESS_REALM).map(String::as_str);
            if !realm.is_some_and(|realm| self.realm.is(realm)) {
                continue;
            }
            let Some((key, mut order)) = read(&secret) else {
                tracing::error!(secret.name = %name, "the progress Secret {name} cannot be read; delete it if no newer version of this program wrote it");
                continue;
            };
            order.permit = Some(Arc::new(admit(&order.issuer, &key)));
            found.push(key.clone());
            self.lock().insert(key, order);
        }
        Ok(found)
    }

    /// The order of a Certificate.
    #[must_use]
    pub fn get(&self, key: &CertificateKey) -> Option<Order> {
        self.lock().get(key).cloned()
    }

    /// The Certificates whose orders run, and the issuers that run them.
    #[must_use]
    pub fn issuers(&self) -> Vec<(CertificateKey, IssuerKey)> {
        self.lock().iter().map(|(key, order)| (key.clone(), order.issuer.clone())).collect()
    }

    /// The issuer that runs the order of a Certificate.
    #[must_use]
    pub fn issuer(&self, key: &CertificateKey) -> Option<IssuerKey> {
        self.lock().get(key).map(|order| order.issuer.clone())
    }

    /// What the plan needs to know of the running order of a Certificate.
    #[must_use]
    pub fn running(&self, key: &CertificateKey) -> Option<Running> {
        self.lock().get(key).map(|order| Running {
            fingerprint: order.progress.fingerprint().clone(),
            not_before: order.transient_error.map(|wait| wait.until),
        })
    }

    /// Keeps `order`, and stores it where it is not stored like that already. Returns it as it is
    /// kept.
    ///
    /// # Errors
    /// When it could not be stored. It is kept in memory all the same, so that the CA is not asked
    /// for another one; save it again before it goes on.
    pub async fn save(&self, key: &CertificateKey, mut order: Order) -> kube::Result<Order> {
        order.stored = {
            let mut running = self.lock();
            let known = running.get(key).filter(|known| known.stored);
            let stored = known.is_some_and(|it| order.progress.is_stored_by(&it.progress));
            running.insert(key.clone(), Order { stored, ..order.clone() });
            stored
        };
        if !order.stored {
            let secret = self.render(key, &order)?;
            let params = PatchParams::apply(well_known::FIELD_MANAGER).force();
            self.api.patch(&secret.name_any(), &params, &apply(&secret)?).await?;
            order.stored = true;
            self.lock().insert(key.clone(), order.clone());
        }
        Ok(order)
    }

    /// Releases the slot of an order whose issuer has done its part.
    pub fn release_permit(&self, key: &CertificateKey) {
        let permit = self.lock().get_mut(key).and_then(|order| order.permit.take());
        drop(permit);
    }

    /// Keeps in memory how far a running order came in a call that failed. Nothing of it needs to be
    /// stored.
    pub fn advanced_to(&self, key: &CertificateKey, progress: &Progress) {
        if let Some(order) = self.lock().get_mut(key)
            && progress.is_stored_by(&order.progress)
        {
            order.progress = progress.clone();
        }
    }

    /// Whether to publish in the status what the order waits for, until `until` at least: once for each
    /// wait, and only where it is long. The text changes with each check of a name server, and each write
    /// causes an event in all watches.
    pub fn publishes(
        &self,
        key: &CertificateKey,
        cause: Cause,
        now: Timestamp,
        until: Timestamp,
    ) -> bool {
        let mut running = self.lock();
        let Some(order) = running.get_mut(key) else { return false };
        let new = Wait { cause, since: now, is_published: false };
        let wait = order.wait.get_or_insert(new);
        if wait.cause != cause {
            *wait = new;
        }
        // A phase has something to do soon; a back-off has not.
        let ends = if cause == Cause::Failure { until } else { now };
        let publishes = !wait.is_published && ends.duration_since(wait.since) >= PATIENCE;
        wait.is_published |= publishes;
        publishes
    }

    /// Keeps the wait after an error that did not end the order, in memory only.
    pub fn record_error(&self, key: &CertificateKey, wait: Backoff) {
        if let Some(order) = self.lock().get_mut(key) {
            order.transient_error = Some(wait);
        }
    }

    /// Lets the orders of an issuer go on at once: an operator may have corrected what they wait for.
    /// Orders of a tenant's issuer keep their waits.
    pub fn end_waits(&self, issuer: &IssuerKey) {
        if matches!(issuer, IssuerKey::Target(_)) {
            return;
        }
        for order in self.lock().values_mut().filter(|order| order.issuer == *issuer) {
            order.transient_error = None;
        }
    }

    /// Keeps a wait that the CA asks for. A long one is stored, too, for the next process.
    pub async fn record_wait(&self, key: &CertificateKey, wait: Backoff) {
        self.record_error(key, wait);
        let Some(order) = self.get(key).filter(|order| order.stored && is_long(&wait)) else {
            return;
        };
        let Ok(secret) = self.render(key, &order) else { return };
        let params = PatchParams::apply(well_known::FIELD_MANAGER).force();
        let Ok(patch) = apply(&secret) else { return };
        let written = self.api.patch(&secret.name_any(), &params, &patch).await;
        if let Err(error) = written {
            tracing::warn!(certificate = %key, "when the order of {key} goes on cannot be stored: {}", brief(&error));
        }
    }

    /// Deletes the order of a Certificate. *Idempotent*. Sends no request where no order is known: each
    /// one is known before its Secret is written, or was read at the start.
    ///
    /// # Errors
    /// When the Secret could not be deleted; the order is then still known.
    pub async fn delete(&self, key: &CertificateKey) -> kube::Result<()> {
        let Some(order) = self.get(key) else { return Ok(()) };
        let name = self.secret_name(key);
        for name in order.found_in.into_iter().filter(|found| *found != name).chain([name.clone()])
        {
            match self.api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(error),
            }
        }
        let ended = self.lock().remove(key);
        drop(ended);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CertificateKey, Order>> {
        self.running.lock()
    }

    /// A name of fixed length: realm and Certificate together may be too long for one.
    fn secret_name(&self, key: &CertificateKey) -> String {
        let owner = format!("{} {key}", self.realm.as_str());
        format!("cert-progress-{}", cert_lib::model::request::digest(owner.as_bytes()))
    }

    fn render(&self, key: &CertificateKey, order: &Order) -> kube::Result<Secret> {
        let bytes = order
            .progress
            .encode()
            .map_err(|error| kube::Error::SerdeError(serde::ser::Error::custom(error)))?;
        let not_before = order
            .transient_error
            .filter(is_long)
            .map(|wait| (well_known::PROGRESS_NOT_BEFORE.to_owned(), seconds_up(wait.until)));
        let annotations = [
            (well_known::PROGRESS_REALM.to_owned(), self.realm.as_str().to_owned()),
            (well_known::PROGRESS_OF.to_owned(), key.to_string()),
            (well_known::PROGRESS_ISSUER.to_owned(), order.issuer.to_string()),
            (well_known::PROGRESS_REASON.to_owned(), order.reason.word().to_owned()),
        ];
        let annotations = annotations.into_iter().chain(not_before).collect();
        Ok(Secret {
            metadata: ObjectMeta {
                name: Some(self.secret_name(key)),
                labels: Some([(well_known::PROGRESS.to_owned(), "true".to_owned())].into()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            type_: Some(well_known::PROGRESS.to_owned()),
            data: Some(BTreeMap::from([(DATA.to_owned(), ByteString(bytes.to_vec()))])),
            ..Secret::default()
        })
    }
}

/// Whether a wait is worth a write.
fn is_long(wait: &Backoff) -> bool {
    wait.interval >= SignedDuration::from_secs(30)
}

fn read(secret: &Secret) -> Option<(CertificateKey, Order)> {
    let annotations = secret.annotations();
    let key = CertificateKey::parse(annotations.get(well_known::PROGRESS_OF)?)?;
    let bytes = &secret.data.as_ref()?.get(DATA)?.0;
    let noted = annotations.get(well_known::PROGRESS_REASON);
    let reason = Reason::ALL.into_iter().find(|it| Some(it.word()) == noted.map(String::as_str));
    let not_before = annotations.get(well_known::PROGRESS_NOT_BEFORE);
    let until = not_before.and_then(|time| time.parse().ok());
    let order = Order {
        progress: Progress::decode(bytes).ok()?,
        issuer: IssuerKey::from_text(annotations.get(well_known::PROGRESS_ISSUER)?),
        permit: None,
        reason: reason.unwrap_or(Reason::SecretMissing),
        transient_error: until.map(|until| Backoff {
            until,
            interval: SignedDuration::ZERO,
            failures: 0,
        }),
        stored: true,
        found_in: Some(secret.name_any()),
        wait: None,
    };
    Some((key, order))
}

#[cfg(test)]
mod tests;
