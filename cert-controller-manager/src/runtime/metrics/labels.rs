//! The closed sets that labels are taken from.

use ::http::{Method, StatusCode};

use super::issuers::OTHER;

/// How a try to issue a certificate ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuanceResult {
    /// There is a certificate.
    Issued,
    /// There is none, and the order is given up.
    Failed,
}

/// What an API server is asked to do, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read all.
    List,
    /// Follow all.
    Watch,
    /// Make one.
    Create,
    /// Replace one.
    Update,
    /// Change one.
    Patch,
    /// Remove one.
    Delete,
}

/// What came of a DNS query, as a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueryResult {
    /// There are records.
    Found,
    /// There is the name, and no such record.
    Empty,
    /// There is no such name.
    NoSuchName,
    /// The server refused or failed.
    Failed,
    /// No answer came.
    Unreachable,
}

impl IssuanceResult {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Failed => "failed",
        }
    }
}

impl Verb {
    /// The verb of a request: a read of many is a list, or a watch where its query says so.
    #[must_use]
    pub fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        match *method {
            Method::POST => Self::Create,
            Method::PUT => Self::Update,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ if query.is_some_and(asks_for_watch) => Self::Watch,
            _ if names_one(path) => Self::Get,
            _ => Self::List,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

fn asks_for_watch(query: &str) -> bool {
    query.split('&').any(|pair| matches!(pair, "watch" | "watch=true" | "watch=1"))
}

/// Whether a path of the Kubernetes API names one object: `…/<plural>/<name>` behind the version and
/// the namespace. What is not about objects, like `/version`, counts as one.
fn names_one(path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    let resource = match parts.next() {
        Some("api") => parts.nth(1),
        Some("apis") => parts.nth(2),
        _ => return true,
    };
    let rest: Vec<_> = parts.collect();
    match (resource, rest.as_slice()) {
        (None, _) => true,
        // The namespace itself, or what is in it.
        (Some("namespaces"), [_] | [_, _, _, ..]) => true,
        (Some("namespaces"), [] | [_, _]) => false,
        (Some(_), names) => !names.is_empty(),
    }
}

impl QueryResult {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Empty => "empty",
            Self::NoSuchName => "no_such_name",
            Self::Failed => "failed",
            Self::Unreachable => "unreachable",
        }
    }
}

pub(super) fn bool_word(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

pub(super) fn method_word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        _ => OTHER,
    }
}

/// Class of a status.
pub(super) fn class(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16() / 100) {
        Some(1) => "1xx",
        Some(2) => "2xx",
        Some(3) => "3xx",
        Some(4) => "4xx",
        Some(_) => "5xx",
        None => "error",
    }
}

/// Every method that [`method_word`] tells.
pub(super) const METHODS: [&str; 4] = ["GET", "HEAD", "POST", OTHER];
/// Every class that [`class`] tells.
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "error"];
