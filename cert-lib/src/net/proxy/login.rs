//! User and password of a URL.

use ::http::HeaderValue;
use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

/// User and password, percent-decoded.
#[derive(Clone, Eq, PartialEq)]
pub struct Login {
    user: Zeroizing<Vec<u8>>,
    password: Zeroizing<Vec<u8>>,
}

impl Login {
    /// Parses the userinfo of a URL, with the characters that Go allows.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = |it: char| it.is_ascii_alphanumeric() || "-._:~!$&'()*+,;=%@".contains(it);
        if !text.chars().all(fits) {
            return Err("its user or password holds a character that needs percent encoding");
        }
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let part = |text| {
            let part = unescaped(text).map(Zeroizing::new);
            part.ok_or("its user or password holds a % without two hexadecimal digits")
        };
        Ok(Self { user: part(user)?, password: part(password)? })
    }

    /// The user.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The password; empty if unset.
    #[must_use]
    pub fn password(&self) -> &[u8] {
        &self.password
    }

    /// The value for basic authentication (RFC 7617).
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let pair = Zeroizing::new([self.user(), b":", self.password()].concat());
        let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_slice())));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Prints neither.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// The value for basic authentication (RFC 7617) from the percent-encoded user and password of a
/// URL. A `%` without two digits is kept.
#[must_use]
pub fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let part = |text| Zeroizing::new(decode(text).0);
    Login { user: part(user), password: part(password) }.basic()
}

/// Percent-decodes; `None` for a `%` without two digits.
pub(super) fn unescaped(text: &str) -> Option<Vec<u8>> {
    let (bytes, whole) = decode(text);
    whole.then_some(bytes)
}

/// Percent-decodes, and returns whether each `%` had two digits.
fn decode(text: &str) -> (Vec<u8>, bool) {
    let (mut bytes, mut whole) = (Vec::with_capacity(text.len()), true);
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.first_chunk::<2>().filter(|_| *first == b'%');
        let code = code.filter(|code| code.iter().all(u8::is_ascii_hexdigit));
        let code = code.and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                whole &= *first != b'%';
                bytes.push(*first);
                rest = after;
            }
        }
    }
    (bytes, whole)
}
