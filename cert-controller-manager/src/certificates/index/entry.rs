//! What the index keeps of a Certificate. That of a ready one is packed: it has work once a day, and an
//! object of many small allocations takes five times as much memory as its JSON.
//!
//! The objects are kept, not read for each pass, so that passes go on while their cluster is away.

use std::sync::Arc;

use cert_lib::model::reason::Reason;
use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::{
    Certificate, IssuerKey, ObjectKey,
    certificate::{CertificateStatus, State},
    well_known,
};

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Entry {
    /// `metadata.resourceVersion`, as an ordered number.
    version: u64,
    object: Kept,
    summary: Box<Summary>,
}

#[derive(Debug)]
enum Kept {
    Whole(Arc<Certificate>),
    /// As JSON.
    Packed(Box<[u8]>),
}

/// What is needed of many Certificates at once: by metrics, and to compare those with the same Secret.
/// The texts of a status come from an untrusted cluster, so only known ones are kept.
#[derive(Debug)]
pub struct Summary {
    /// Decides which of several Certificates owns a Secret.
    pub(super) age: Age,
    /// Whether it has a deletion timestamp.
    pub(super) is_deleting: bool,
    /// The annotation with its class.
    pub class: Option<Box<str>>,
    /// The issuer in its status.
    pub issuer: Option<IssuerKey>,
    /// `status.state`; `other` for unknown texts.
    pub state: &'static str,
    /// The reason of its `Ready` condition; empty if there is none.
    pub reason: &'static str,
    /// Expiry of its certificate.
    pub not_after: Option<Timestamp>,
    /// When its certificate is to be renewed.
    pub renewal_at: Option<Timestamp>,
}

/// The order of Certificates with the same Secret: the least is the oldest.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Age {
    created: Option<Timestamp>,
    /// Creation times have a resolution of one second. Within it, an issued Certificate is the older one.
    is_unissued: bool,
    pub(super) uid: Option<Box<str>>,
}

/// Bytes of JSON. A tenant determines the size of a Certificate, and unpacking takes time in proportion.
const MAX_PACKED: usize = 8 << 10;

const STATES: [State; 5] =
    [State::Pending, State::Waiting, State::Ready, State::Error, State::Revoked];

impl Entry {
    pub(super) fn new(certificate: Arc<Certificate>) -> Self {
        let summary = Box::new(Summary::of(&certificate));
        let has_work = !summary.is_ready() || summary.is_deleting;
        let packed = if has_work { None } else { pack(&certificate) };
        let version = version(&certificate);
        let object = packed.map_or(Kept::Whole(certificate), Kept::Packed);
        Self { version, object, summary }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The Certificate. It is always there: what cannot be unpacked was not packed.
    pub(super) fn certificate(&self) -> Option<Arc<Certificate>> {
        match &self.object {
            Kept::Whole(certificate) => Some(certificate.clone()),
            Kept::Packed(bytes) => serde_json::from_slice(bytes).ok().map(Arc::new),
        }
    }

    /// Replaces the response to a write by the same version of the watch, which shares memory with other
    /// watch handlers.
    pub(super) fn share(&mut self, watched: &Arc<Certificate>) {
        if let Kept::Whole(known) = &mut self.object
            && known.metadata.resource_version == watched.metadata.resource_version
        {
            known.clone_from(watched);
        }
    }
}

/// The JSON of a small Certificate, if that yields the same Certificate again.
fn pack(certificate: &Certificate) -> Option<Box<[u8]>> {
    let bytes = serde_json::to_vec(certificate).ok().filter(|bytes| bytes.len() <= MAX_PACKED)?;
    let unpacked: Certificate = serde_json::from_slice(&bytes).ok()?;
    let is_same = unpacked.metadata == certificate.metadata
        && unpacked.spec == certificate.spec
        && unpacked.status == certificate.status;
    is_same.then(|| bytes.into_boxed_slice())
}

impl Age {
    pub(super) fn of(certificate: &Certificate) -> Self {
        Self {
            created: certificate.metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_unissued: !certificate.labels().contains_key(well_known::HASH),
            uid: certificate.metadata.uid.as_deref().map(Into::into),
        }
    }
}

impl Summary {
    fn of(certificate: &Certificate) -> Self {
        let status = certificate.status.as_ref();
        let time = |text: Option<&String>| text.and_then(|text| text.parse().ok());
        let class = certificate.annotations().get(well_known::CLASS);
        Self {
            age: Age::of(certificate),
            is_deleting: certificate.metadata.deletion_timestamp.is_some(),
            class: class.map(|class| class.as_str().into()),
            issuer: status.and_then(issuer),
            state: status.map_or("", |status| state(&status.state)),
            reason: status.map_or("", reason),
            not_after: time(status.and_then(|status| status.expiration_date.as_ref())),
            renewal_at: time(status.and_then(|status| status.renewal_date.as_ref())),
        }
    }

    /// Whether its status says that it is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready.word()
    }
}

fn state(text: &str) -> &'static str {
    let words = STATES.into_iter().map(State::word);
    words.chain([""]).find(|word| *word == text).unwrap_or("other")
}

fn reason(status: &CertificateStatus) -> &'static str {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let words = Reason::ALL.into_iter().map(Reason::word);
    words.into_iter().find(|word| ready.is_some_and(|it| it.reason == *word)).unwrap_or_default()
}

fn issuer(status: &CertificateStatus) -> Option<IssuerKey> {
    let used = status.issuer_ref.as_ref()?;
    Some(match used.cluster.as_deref() {
        Some("target") => IssuerKey::Target(ObjectKey::new(&used.namespace, &used.name)),
        Some(_) | None => IssuerKey::Default(used.name.clone()),
    })
}

/// Resource versions are ordered numbers (KEP-5504). Anything else counts as the oldest version.
pub(super) fn version(certificate: &Certificate) -> u64 {
    certificate.resource_version().and_then(|text| text.parse().ok()).unwrap_or_default()
}
