//! Determines whether an entry is published, from the cache and our last write. Pure.

use super::{applied::Applied, entries::Entry};
use crate::{
    api::{ObjectKey, dnsentry::STATE_READY},
    runtime::watch::Availability,
};

/// The state of an entry, with a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum EntryState {
    /// Our version is ready.
    Published,
    /// Our version exists and is not ready.
    Pending(String),
    /// Our version is not in the cache: the watch is late, or another client deleted or changed it.
    NotApplied(String),
    /// The entries are not known.
    Unknown(String),
}

/// The state of the entry at `key`, which should publish `content`. The cached `entry` may be older or newer
/// than our last write `applied`. After a restart, only the content is compared.
pub(super) fn entry_state(
    key: &ObjectKey,
    availability: Availability,
    entry: Option<&Entry>,
    applied: Option<&Applied>,
    content: &[u8; 32],
) -> EntryState {
    let unknown = |why: &str| EntryState::Unknown(format!("DNSEntry {key}: {why}"));
    match availability {
        Availability::Unknown => return unknown("entries are not listed yet"),
        Availability::Absent => return unknown("the cluster has no DNSEntry resource"),
        Availability::Denied => return unknown("the right to list and watch entries is missing"),
        Availability::Present => {}
    }
    let not_applied = |why: &str| EntryState::NotApplied(format!("DNSEntry {key} {why}"));
    let Some(entry) = entry else { return not_applied("does not exist") };
    if entry.deleting {
        return not_applied("is being deleted");
    }
    let older =
        |applied: &Applied| entry.uid != applied.uid || entry.generation < applied.generation;
    if applied.is_some_and(older) || entry.content != *content {
        return not_applied("is not the version that was applied");
    }
    if entry.observed_generation == Some(entry.generation) && entry.state == STATE_READY {
        return EntryState::Published;
    }
    EntryState::Pending(pending(key, entry))
}

fn pending(key: &ObjectKey, entry: &Entry) -> String {
    let about = match entry.state.as_str() {
        "" => "has no state yet: is a DNS controller responsible for its name?".to_owned(),
        _ if entry.observed_generation != Some(entry.generation) => {
            format!("has state {} for an older version", entry.state)
        }
        state => format!("has state {state}"),
    };
    let message: String = entry.message.chars().take(MAX_MESSAGE).collect();
    match message.trim() {
        "" => format!("DNSEntry {key} {about}"),
        message => format!("DNSEntry {key} {about}: {message}"),
    }
}

/// Maximum length of the message of another controller.
const MAX_MESSAGE: usize = 300;

#[cfg(test)]
mod tests {
    use cert_lib::solve::Owner;
    use jiff::Timestamp;

    use super::*;

    const CONTENT: [u8; 32] = [7; 32];

    fn entry(change: impl FnOnce(&mut Entry)) -> Option<Entry> {
        let mut entry = Entry {
            owner: Owner("ns/c".into()),
            uid: "u2".into(),
            generation: 2,
            observed_generation: Some(2),
            state: "Ready".into(),
            message: String::new(),
            deleting: false,
            content: CONTENT,
        };
        change(&mut entry);
        Some(entry)
    }

    #[test]
    fn an_entry_is_published_when_its_applied_version_is_ready() {
        use Availability::{Absent, Denied, Present, Unknown};
        let applied = |uid: &str, generation| {
            Some(Applied { uid: uid.into(), generation, at: Timestamp::UNIX_EPOCH })
        };
        let ready = || entry(|_| {});
        let key = ObjectKey { namespace: "dns".into(), name: "cert--a".into() };
        for (availability, entry, applied, want) in [
            (Present, ready(), applied("u2", 2), "Published"),
            (Present, ready(), applied("u2", 1), "Published"),
            (Present, ready(), None, "Published"),
            (Unknown, ready(), None, "Unknown: entries are not listed yet"),
            (Absent, None, None, "Unknown: the cluster has no DNSEntry resource"),
            (Denied, None, None, "Unknown: the right to list and watch entries is missing"),
            (Present, None, None, "NotApplied does not exist"),
            (Present, entry(|e| e.deleting = true), None, "NotApplied is being deleted"),
            (Present, ready(), applied("u2", 3), "NotApplied is not the version that was applied"),
            (Present, ready(), applied("u3", 1), "NotApplied is not the version that was applied"),
            (
                Present,
                entry(|e| e.content = [8; 32]),
                None,
                "NotApplied is not the version that was applied",
            ),
            (
                Present,
                entry(|e| e.observed_generation = Some(1)),
                None,
                "Pending has state Ready for an older version",
            ),
            (
                Present,
                entry(|e| e.observed_generation = None),
                None,
                "Pending has state Ready for an older version",
            ),
            (
                Present,
                entry(|e| e.state.clear()),
                None,
                "Pending has no state yet: is a DNS controller responsible for its name?",
            ),
            (
                Present,
                entry(|e| {
                    e.state = "Error".into();
                    e.message = "quota exceeded".into();
                }),
                None,
                "Pending has state Error: quota exceeded",
            ),
        ] {
            let found = entry_state(&key, availability, entry.as_ref(), applied.as_ref(), &CONTENT);
            let found = match found {
                EntryState::Published => "Published".to_owned(),
                EntryState::Pending(why) => format!("Pending {why}"),
                EntryState::NotApplied(why) => format!("NotApplied {why}"),
                EntryState::Unknown(why) => format!("Unknown {why}"),
            };
            assert_eq!(
                found.replace("DNSEntry dns/cert--a ", "").replace(" DNSEntry dns/cert--a", ""),
                want
            );
        }
    }
}
