//! A value of a kubeconfig with its path, so that every error message names the field.
//!
//! The rules are those of the Go decoder: `null` and missing fields are empty, unknown fields are
//! ignored, and a number is not a string.

use std::fmt;

use anyhow::bail;
use base64::{
    Engine as _,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

/// A value and its path. The value may be a secret, so `Debug` shows only the path.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    place: String,
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl<'a> Node<'a> {
    /// The root of a file.
    pub(super) const fn root(value: &'a Value) -> Self {
        Self { value, place: String::new() }
    }

    /// A field, or an empty value if it is missing.
    pub(super) fn field(&self, name: &str) -> anyhow::Result<Node<'a>> {
        let dot = if self.place.is_empty() { "" } else { "." };
        let place = format!("{}{dot}{name}", self.place);
        match self.value {
            Value::Null => Ok(Node { value: &Value::Null, place }),
            Value::Object(fields) => {
                Ok(Node { value: fields.get(name).unwrap_or(&Value::Null), place })
            }
            _ => self.refuse("a mapping"),
        }
    }

    pub(super) const fn is_unset(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    pub(super) fn text(&self) -> anyhow::Result<String> {
        match self.value {
            Value::Null => Ok(String::new()),
            Value::String(text) => Ok(text.clone()),
            _ => self.refuse("a text; put it into quotes"),
        }
    }

    pub(super) fn flag(&self) -> anyhow::Result<bool> {
        match self.value {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            // kubectl reads YAML 1.1, which has more boolean values than YAML 1.2.
            Value::String(text) if TRUE.contains(&text.as_str()) => Ok(true),
            Value::String(text) if FALSE.contains(&text.as_str()) => Ok(false),
            _ => self.refuse("true or false"),
        }
    }

    /// Bytes in base64, possibly with line breaks.
    pub(super) fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let text = self.text()?;
        let text: String = text.chars().filter(|it| !matches!(it, '\r' | '\n')).collect();
        let Ok(bytes) = BASE64.decode(text) else { return self.refuse("base64") };
        Ok(bytes)
    }

    pub(super) fn list(&self) -> anyhow::Result<Vec<Node<'a>>> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Array(items) => Ok(items
                .iter()
                .enumerate()
                .map(|(at, value)| Node { value, place: format!("{}[{at}]", self.place) })
                .collect()),
            _ => self.refuse("a list"),
        }
    }

    pub(super) fn texts(&self) -> anyhow::Result<Vec<String>> {
        self.list()?.iter().map(Self::text).collect()
    }

    /// A map from strings to lists of strings.
    pub(super) fn lists_of_texts(&self) -> anyhow::Result<Vec<(String, Vec<String>)>> {
        match self.value {
            Value::Null => Ok(Vec::new()),
            Value::Object(fields) => {
                let texts = |name: &String| Ok((name.clone(), self.field(name)?.texts()?));
                fields.keys().map(texts).collect()
            }
            _ => self.refuse("a mapping"),
        }
    }

    /// The raw value.
    pub(super) fn any(&self) -> Option<Value> {
        (!self.is_unset()).then(|| self.value.clone())
    }

    fn refuse<T>(&self, expected: &str) -> anyhow::Result<T> {
        let place = if self.place.is_empty() { "the file" } else { &self.place };
        bail!("{place} is not {expected}")
    }
}

/// Like Go's standard decoder: requires padding and ignores trailing bits.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);
const TRUE: [&str; 9] = ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true"];
const FALSE: [&str; 9] = ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false"];
