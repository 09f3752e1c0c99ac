//! Closed sets of label values.

use ::http::{Method, StatusCode};

use super::issuers::OTHER;

/// Result of an issuance attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssuanceResult {
    /// A certificate was issued.
    Issued,
    /// The attempt failed, and the order was abandoned.
    Failed,
}

/// The verb of a Kubernetes request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Read an object.
    Get,
    /// Read all objects.
    List,
    /// Watch objects.
    Watch,
    /// Create an object.
    Create,
    /// Replace an object.
    Update,
    /// Patch an object.
    Patch,
    /// Delete an object.
    Delete,
}

/// Result of a DNS query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QueryResult {
    /// Records exist.
    Found,
    /// The name exists without such records.
    Empty,
    /// The name does not exist.
    NoSuchName,
    /// The server refused or failed.
    Failed,
    /// The server did not respond.
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
    /// The verb of a request, from method, path and query.
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

/// Whether a path of the Kubernetes API names one object: `…/<plural>/<name>` after the version and the
/// namespace. Other paths, like `/version`, count as one object.
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
        // The namespace itself, or an object in it.
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

/// The class of an HTTP status.
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

/// All results of [`method_word`].
pub(super) const METHODS: [&str; 4] = ["GET", "HEAD", "POST", OTHER];
/// All results of [`class`].
pub(super) const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "error"];
