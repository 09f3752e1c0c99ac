//! Bounds for the values that a CA sends. Bodies are bounded when they are received; these bounds
//! are for the values that stay in memory, in stored progress and in a status.

use serde::{Deserialize, Deserializer, de::Error};

/// Some CAs send `null` for a missing value.
pub(super) fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A URL that must be there.
pub(super) fn url<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(String::deserialize(from)?, MAX_URL)
}

/// A URL that may be missing.
pub(super) fn some_url<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Option::<String>::deserialize(from)?.map(|url| checked(url, MAX_URL)).transpose()
}

/// URLs. A list that is too long is cut to one more than an order can have; the number shows that.
pub(super) fn urls<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let mut all: Vec<String> = or_default(from)?;
    all.truncate(MAX_URLS);
    all.into_iter().map(|url| checked(url, MAX_URL)).collect()
}

/// A name, a token, a keyword.
pub(super) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    checked(String::deserialize(from)?, MAX_WORD)
}

/// A list, cut to its first values.
pub(super) fn list<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let mut all: Vec<T> = or_default(from)?;
    all.truncate(MAX_ITEMS);
    all.shrink_to_fit();
    Ok(all)
}

/// A text for users, cut to its beginning.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(cut(&or_default::<_, String>(from)?))
}

/// An optional text for users, cut to its beginning.
pub(super) fn some_text<'de, D>(from: D) -> Result<Option<String>, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(Option::<String>::deserialize(from)?.map(|text| cut(&text)))
}

/// The beginning of `text`.
pub(super) fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT)].to_owned()
}

/// Whether `text` is short enough for a [`word`].
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= MAX_WORD
}

/// Whether `text` is short enough for a [`url()`].
pub(super) fn is_url(text: &str) -> bool {
    text.len() <= MAX_URL
}

fn checked<E: Error>(text: String, most: usize) -> Result<String, E> {
    match text.len() {
        length if length <= most => Ok(text),
        length => Err(E::custom(format_args!("{TOO_LONG} {length} bytes, more than {most}"))),
    }
}

/// The beginning of the error message for a text that is too long. It quotes nothing.
pub(super) const TOO_LONG: &str = "a text has";
const MAX_URL: usize = 2048;
const MAX_WORD: usize = 1024;
/// Let's Encrypt's longest details are below one kilobyte, and its links below two.
const MAX_TEXT: usize = 8 * 1024;
/// Contacts, challenges of a name, problems of an order, profiles, identifiers in messages.
pub(super) const MAX_ITEMS: usize = 32;
/// Authorizations of an order: no CA allows as many names.
const MAX_URLS: usize = 1001;
