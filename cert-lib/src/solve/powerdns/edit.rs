//! Adds TXT values to a record set and removes them. Pure.

use super::{
    txt::{quote, unquote},
    wire::{Change, Record, RecordSet},
};

/// A change of the values of a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit<'a> {
    /// These values are there afterwards.
    Add(&'a [String]),
    /// These values are missing afterwards.
    Remove(&'a [String]),
}

impl Edit<'_> {
    /// The change of `set`, or `None` if nothing must change. Keeps records of others, disabled
    /// ones too, and the TTL of existing records.
    pub(super) fn change(self, set: &RecordSet, ttl: u32) -> Option<Change> {
        if self.is_done(set) {
            return None;
        }
        let ttl = if set.records.is_empty() { ttl } else { set.ttl };
        let mut records = set.records.clone();
        match self {
            Self::Add(values) => values.iter().for_each(|value| enable(&mut records, value)),
            Self::Remove(values) => {
                records.retain(|record| !values.iter().any(|value| publishes(record, value)));
            }
        }
        Some(if records.is_empty() { Change::Delete {} } else { Change::Replace { ttl, records } })
    }

    /// Whether `set` is as it should be.
    pub(super) fn is_done(self, set: &RecordSet) -> bool {
        let has = |value: &String| set.records.iter().any(|record| publishes(record, value));
        match self {
            Self::Add(values) => values.iter().all(has),
            Self::Remove(values) => !values.iter().any(has),
        }
    }
}

/// The server refuses a set with the same record enabled and disabled.
fn enable(records: &mut Vec<Record>, value: &str) {
    match records.iter_mut().find(|record| unquote(&record.content) == value.as_bytes()) {
        Some(record) => record.disabled = false,
        None => records.push(Record { content: quote(value), disabled: false }),
    }
}

fn publishes(record: &Record, value: &str) -> bool {
    !record.disabled && unquote(&record.content) == value.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(records: &[(&str, bool)]) -> RecordSet {
        let record = |(content, disabled): &(&str, bool)| Record {
            content: (*content).to_owned(),
            disabled: *disabled,
        };
        RecordSet { ttl: 77, records: records.iter().map(record).collect(), ..Default::default() }
    }

    fn replace(ttl: u32, records: &[(&str, bool)]) -> Option<Change> {
        Some(Change::Replace { ttl, records: set(records).records })
    }

    const FOREIGN: [(&str, bool); 2] = [(r#""other" " one""#, false), (r#""off""#, true)];
    const OURS: (&str, bool) = (r#""v1""#, false);

    #[test]
    fn values_are_added_to_those_of_others() {
        let values = ["v1".to_owned(), "v2".to_owned()];
        let second = (r#""v2""#, false);
        let [live, off] = FOREIGN;
        for (records, want) in [
            (&[][..], replace(60, &[OURS, second])),
            (&[live, off], replace(77, &[live, off, OURS, second])),
            (&[live, ("v\"1\"", false)], replace(77, &[live, ("v\"1\"", false), second])),
            (&[OURS, second, off], None),
            (&[(r#""v1""#, true)], replace(77, &[OURS, second])),
        ] {
            assert_eq!(Edit::Add(&values).change(&set(records), 60), want, "{records:?}");
        }
        assert_eq!(
            Edit::Add(&["v1".into(), "v1".into()]).change(&set(&[]), 1),
            replace(1, &[OURS])
        );
        assert_eq!(Edit::Add(&[]).change(&set(&[]), 1), None);
    }

    #[test]
    fn values_are_removed_and_those_of_others_stay() {
        let values = ["v1".to_owned(), "v2".to_owned()];
        let [live, off] = FOREIGN;
        for (records, want) in [
            (&[][..], None),
            (&[live, off], None),
            (&[live, OURS, off], replace(77, &[live, off])),
            (&[OURS, ("v2", false)], Some(Change::Delete {})),
            (&[OURS, off], replace(77, &[off])),
            (&[(r#""v1""#, true)], None),
        ] {
            assert_eq!(Edit::Remove(&values).change(&set(records), 60), want, "{records:?}");
        }
    }
}
