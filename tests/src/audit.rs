//! The audit log of an API server: user, request, time and result.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// One answered request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The name of a user of the control plane, or `system:…` for the server itself.
    pub user: String,
    /// The User-Agent.
    pub agent: String,
    /// get, list, watch, create, update, patch, delete or deletecollection.
    pub verb: String,
    /// The API group, empty for core.
    pub group: String,
    /// The plural, with `/status` for that subresource.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty for lists, and for creations where the server chooses the name.
    pub name: String,
    /// The HTTP status; 0 where the connection broke before a response.
    pub code: u16,
    /// When the server received it, by the clock of this machine.
    pub began: Timestamp,
    /// When the response was complete.
    pub ended: Timestamp,
}

impl Request {
    /// Whether it may have changed something: it is not a read and was not refused.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch") && self.code < 400
    }

    /// Whether RBAC refused it.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        self.code == 403
    }

    /// Whether it concerns the lease of the leader.
    #[must_use]
    pub fn is_about_lease(&self) -> bool {
        self.group == "coordination.k8s.io"
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, verb, resource, namespace, name, code, began, .. } = self;
        write!(f, "{began} {user} {verb} {resource} {namespace}/{name}: {code}")
    }
}

/// Reads the log.
///
/// # Errors
/// It is missing, or a line has an unexpected form.
pub fn read(log: &Path) -> Result<Vec<Request>> {
    let text = fs::read_to_string(log)
        .with_context(|| format!("cannot read {}: is audit on?", log.display()))?;
    // The last line may be incomplete, also after the server was killed.
    let lines = text.lines().filter(|line| line.ends_with('}'));
    lines.filter_map(|line| parse(line).transpose()).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
}

/// `None` for requests without objects, and for the first response of a watch.
fn parse(line: &str) -> Result<Option<Request>> {
    let line: Line = serde_json::from_str(line).with_context(|| line.to_owned())?;
    let Some(object) = line.object_ref else { return Ok(None) };
    if line.stage == "ResponseStarted" {
        return Ok(None);
    }
    let slash = if object.subresource.is_empty() { "" } else { "/" };
    Ok(Some(Request {
        user: line.user.username,
        agent: line.user_agent,
        verb: line.verb,
        group: object.api_group,
        resource: format!("{}{slash}{}", object.resource, object.subresource),
        namespace: object.namespace,
        name: object.name,
        code: line.response_status.unwrap_or_default().code,
        began: line.request_received_timestamp,
        ended: line.stage_timestamp,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_is_parsed() {
        let line = r#"{"kind":"Event","stage":"ResponseComplete","verb":"patch",
            "user":{"username":"manager-a","groups":["system:authenticated"]},"userAgent":"kube/1",
            "objectRef":{"resource":"certificates","namespace":"n","name":"a",
              "apiGroup":"cert.gardener.cloud","apiVersion":"v1alpha1","subresource":"status"},
            "responseStatus":{"metadata":{},"code":200},
            "requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z",
            "stageTimestamp":"2026-01-02T03:04:05.100006Z"}"#;
        let request = parse(line).unwrap().unwrap();
        assert_eq!(
            request.to_string(),
            "2026-01-02T03:04:05.000006Z manager-a patch certificates/status n/a: 200"
        );
        assert!(request.is_write() && request.ended > request.began);
        assert!(parse(&line.replace("ResponseComplete", "ResponseStarted")).unwrap().is_none());
    }
}
