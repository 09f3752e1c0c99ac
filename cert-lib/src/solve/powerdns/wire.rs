//! JSON of the PowerDNS API, as far as it is used. Other fields are ignored.

use serde::{Deserialize, Serialize};

use crate::model::name::DnsName;

/// A zone in a list.
#[derive(Debug, Deserialize)]
pub(super) struct ZoneInfo {
    /// With a trailing dot.
    pub(super) name: String,
    /// For example `Native` or `Consumer`.
    pub(super) kind: String,
}

/// A zone with its record sets.
#[derive(Debug, Deserialize)]
pub(super) struct ZoneRecords {
    #[serde(default)]
    pub(super) rrsets: Vec<RecordSet>,
}

/// All records of one name and type.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct RecordSet {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) ttl: u32,
    /// Empty for a name that only has comments.
    #[serde(default)]
    pub(super) records: Vec<Record>,
}

/// One record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Record {
    pub(super) content: String,
    /// The server does not answer with it.
    #[serde(default)]
    pub(super) disabled: bool,
}

/// A result of a search, which finds disabled records too.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    pub(super) name: String,
    #[serde(default)]
    pub(super) zone: String,
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) ttl: u32,
    #[serde(flatten)]
    pub(super) record: Record,
}

/// The body of an error.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: String,
}

/// A change of a zone. Comments are not sent, so the server keeps them.
#[derive(Debug, Serialize)]
pub(super) struct Patch<'a> {
    pub(super) rrsets: [SetChange<'a>; 1],
}

/// A change of one record set.
#[derive(Debug, Serialize)]
pub(super) struct SetChange<'a> {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(flatten)]
    pub(super) change: &'a Change,
}

/// What to write.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "changetype", rename_all = "UPPERCASE")]
pub(super) enum Change {
    /// These records instead of all that exist.
    Replace { ttl: u32, records: Vec<Record> },
    /// No records.
    Delete {},
}

/// `name` as the API writes it.
pub(super) fn absolute(name: &DnsName) -> String {
    format!("{name}.")
}

/// Whether `text` of the API is `name`.
pub(super) fn is_name(text: &str, name: &DnsName) -> bool {
    text.strip_suffix('.').unwrap_or(text).eq_ignore_ascii_case(name.as_str())
}

/// The only type of record that is read and written.
pub(super) const TXT: &str = "TXT";
