//! The configuration file: YAML or JSON with names of flags as keys. The keys of nested maps are joined by a
//! dot, and the key `_` contains the value of its parent: `source: {_: FILE, id: ID}` is
//! `--source=FILE --source.id=ID`. Upstream documents the same, but refuses it.

use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::{
    flags::{self, Kind, MANAGER},
    values::{Origin, Values},
};

/// Reads a file and sets its values.
///
/// # Errors
/// For invalid files; the message names the file and the key.
pub fn load(path: &Path, values: &mut Values) -> anyhow::Result<()> {
    let name = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {name}"))?;
    for (key, texts) in read(&text).with_context(|| name.to_string())? {
        values.set(&key, texts, Origin::File(path.to_owned()))?;
    }
    Ok(())
}

/// Parses a file into names of flags and their values.
fn read(text: &str) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let content: Value = match text.trim() {
        "" => Value::Null,
        _ => serde_yaml::from_str(text).map_err(|why| {
            let why = why.to_string();
            anyhow::anyhow!("no YAML: {}", why.lines().next().unwrap_or_default())
        })?,
    };
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    match content {
        Value::Null => {}
        Value::Object(entries) => {
            for (key, value) in entries {
                flatten(&key, value, &mut found)?;
            }
        }
        _ => bail!("not a map from names of flags to values"),
    }
    for (index, (key, _)) in found.iter().enumerate() {
        ensure!(found[..index].iter().all(|(earlier, _)| earlier != key), "{key} is there twice");
        ensure!(key != "config", "config cannot be set in a configuration file");
    }
    found.into_iter().map(|(key, texts)| Ok((key.clone(), join(&key, texts)?))).collect()
}

/// Converts a list to a value with separators, or to a repeated flag, depending on the flag.
fn join(key: &str, texts: Vec<String>) -> anyhow::Result<Vec<String>> {
    let kind = flags::find(MANAGER, key).map(|flag| flag.kind);
    match kind.and_then(Kind::separator) {
        Some(separator) => Ok(vec![texts.join(separator)]),
        None if texts.len() > 1 && !kind.is_some_and(Kind::repeats) => {
            bail!("{key}: takes one value, and there is a list of {}", texts.len())
        }
        None => Ok(texts),
    }
}

fn flatten(key: &str, value: Value, found: &mut Vec<(String, Vec<String>)>) -> anyhow::Result<()> {
    match value {
        Value::Null => {}
        Value::Object(entries) => {
            for (name, value) in entries {
                match name.as_str() {
                    "_" => flatten(key, value, found)?,
                    _ => flatten(&format!("{key}.{name}"), value, found)?,
                }
            }
        }
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            let texts =
                texts.with_context(|| format!("{key} has a list of something else than values"))?;
            found.push((key.to_owned(), texts));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            found.push((key.to_owned(), scalar(&value).into_iter().collect()));
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(value) => Some(value.to_string()),
        Value::String(value) => Some(value.clone()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
