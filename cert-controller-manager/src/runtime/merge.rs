//! Merge patches (RFC 7396) that hold nothing but changes.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// The patch from the status that is to the one that should be; `None` where they are equal, so
/// that a steady state writes nothing.
#[must_use]
pub fn status_patch<S: Serialize>(is: Option<&S>, should: &S) -> Option<Value> {
    let is = is.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_else(|| json!({}));
    let should = serde_json::to_value(should).ok()?;
    difference(&is, &should).map(|status| json!({ "status": status }))
}

/// What must be merged into `from` to get `to`; `None` where they are equal.
#[must_use]
pub fn difference(from: &Value, to: &Value) -> Option<Value> {
    let Value::Object(new) = to else { return (from != to).then(|| to.clone()) };
    let nothing = Map::new();
    let old = from.as_object().unwrap_or(&nothing);
    let mut patch = Map::new();
    for (name, value) in new {
        let before = old.get(name).unwrap_or(&Value::Null);
        if let Some(change) = difference(before, value) {
            patch.insert(name.clone(), change);
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    let is_new = !from.is_object();
    (is_new || !patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patch_has_the_changes_and_removes_what_is_not_there_any_more() {
        let is = json!({ "state": "Error", "backoff": { "a": 1 }, "kept": { "x": 1, "y": 2 } });
        let should =
            json!({ "state": "Ready", "kept": { "x": 1, "y": 3 }, "new": [1], "made": {} });
        assert_eq!(
            difference(&is, &should),
            Some(
                json!({ "state": "Ready", "backoff": null, "kept": { "y": 3 }, "new": [1], "made": {} })
            )
        );
        assert_eq!(difference(&should, &should), None);
    }
}
