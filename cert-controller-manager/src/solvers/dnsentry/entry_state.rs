//! Whether an entry is published, decided from what the index has and what we applied. Pure.

use super::{Applied, entries::Entry};
use crate::{
    api::{ObjectKey, dnsentry::STATE_READY},
    runtime::watch::Availability,
};

/// Where an entry stands. The texts are for a person and name the entry.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum EntryState {
    /// Our version of it is ready.
    Published,
    /// Our version of it is there and not ready.
    Pending(String),
    /// Our version of it is not there: not yet heard of, or deleted or altered by somebody.
    NotOurs(String),
    /// Nothing can be said about entries at all.
    Unknown(String),
}

/// Decides it for the entry at `key`, which should publish `content`. `entry` is what the index has,
/// which may be older or newer than what we `applied`; that is unknown after a restart, and then
/// the content alone has to do.
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
    let not_ours = |why: &str| EntryState::NotOurs(format!("DNSEntry {key} {why}"));
    let Some(entry) = entry else { return not_ours("is not there") };
    if entry.deleting {
        return not_ours("is being deleted");
    }
    let older =
        |applied: &Applied| entry.uid != applied.uid || entry.generation < applied.generation;
    if applied.is_some_and(older) || entry.content != *content {
        return not_ours("is not the version that was applied");
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

/// Of somebody else's message, so that ours stays readable.
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
    fn an_entry_counts_when_it_is_ready_in_the_version_that_we_applied() {
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
            (Present, None, None, "NotOurs is not there"),
            (Present, entry(|e| e.deleting = true), None, "NotOurs is being deleted"),
            (Present, ready(), applied("u2", 3), "NotOurs is not the version that was applied"),
            (Present, ready(), applied("u3", 1), "NotOurs is not the version that was applied"),
            (
                Present,
                entry(|e| e.content = [8; 32]),
                None,
                "NotOurs is not the version that was applied",
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
                EntryState::NotOurs(why) => format!("NotOurs {why}"),
                EntryState::Unknown(why) => format!("Unknown {why}"),
            };
            assert_eq!(
                found.replace("DNSEntry dns/cert--a ", "").replace(" DNSEntry dns/cert--a", ""),
                want
            );
        }
    }
}
