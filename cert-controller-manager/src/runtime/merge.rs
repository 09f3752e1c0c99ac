//! Minimal merge patches (RFC 7396).

use serde_json::{Map, Value};

/// The patch that changes `from` to `to`; `None` if they are equal.
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
    use serde_json::json;

    use super::*;

    #[test]
    fn the_patch_contains_changed_and_removed_fields() {
        let current =
            json!({ "state": "Error", "backoff": { "a": 1 }, "kept": { "x": 1, "y": 2 } });
        let desired =
            json!({ "state": "Ready", "kept": { "x": 1, "y": 3 }, "new": [1], "made": {} });
        assert_eq!(
            difference(&current, &desired),
            Some(
                json!({ "state": "Ready", "backoff": null, "kept": { "y": 3 }, "new": [1], "made": {} })
            )
        );
        assert_eq!(difference(&desired, &desired), None);
    }
}
