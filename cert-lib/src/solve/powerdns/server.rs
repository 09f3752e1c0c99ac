//! A PowerDNS server as configured: its URL, its id and the API key.

use std::fmt;

use ::http::{HeaderValue, Uri};
use zeroize::Zeroizing;

use crate::solve::SolveError;

/// The API key of a server. Never printed, and overwritten in memory when it is dropped.
#[derive(Clone)]
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// The key in `text`, without spaces and line breaks around it: files often end with one.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }

    /// Replaces the key in `text`, which came from a server.
    pub(super) fn hide(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(self.0.as_str(), "***") }
    }

    /// The value of the header `X-API-Key`; `None` if it cannot be sent.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&self.0).ok().filter(|it| !it.is_empty())?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey")
    }
}

/// Where the API is, and how a client logs in.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// Without a trailing slash and without `/api/v1`.
    pub(super) url: String,
    pub(super) id: String,
    pub(super) key: ApiKey,
    /// Describes where the key is from, for messages.
    pub(super) credential: String,
}

impl Server {
    /// Checks the values that a user wrote.
    ///
    /// # Errors
    /// When one cannot be used.
    pub(super) fn new(
        url: &str,
        id: &str,
        key: ApiKey,
        credential: &str,
    ) -> Result<Self, SolveError> {
        let url = base_url(url)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.len() > MAX_ID || !id.chars().all(is_plain) || id.starts_with('.') {
            return Err(SolveError::Misconfigured(
                "serverID is not the id of a PowerDNS server: use localhost, which PowerDNS servers \
                 have"
                    .to_owned(),
            ));
        }
        if key.header().is_none() {
            return Err(SolveError::Misconfigured(format!(
                "the API key for PowerDNS {url} is empty or has a character that cannot be sent: \
                 write api-key of the server into {credential}"
            )));
        }
        Ok(Self { url, id: id.to_owned(), key, credential: credential.to_owned() })
    }

    /// The address of the API for this server.
    pub(super) fn api(&self) -> String {
        format!("{}/api/v1/servers/{}", self.url, self.id)
    }
}

/// `url` without a trailing slash and the path of the API. Does not quote a URL with credentials.
fn base_url(url: &str) -> Result<String, SolveError> {
    let bad = |why: &str| {
        SolveError::Misconfigured(format!(
            "the URL of the PowerDNS API {why}: use one such as http://powerdns.dns.svc:8081"
        ))
    };
    if url.contains('@') {
        return Err(bad("must not contain credentials"));
    }
    let uri: Uri = url.trim().parse().map_err(|_| bad("is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none_or(str::is_empty) {
        return Err(bad("does not start with http:// or https:// and a host"));
    }
    if uri.query().is_some() || url.contains('#') || url.len() > MAX_URL {
        return Err(bad("has a query or a fragment, or is too long"));
    }
    let base = url.trim().trim_end_matches('/');
    Ok(base.strip_suffix("/api/v1").unwrap_or(base).trim_end_matches('/').to_owned())
}

const MAX_ID: usize = 253;
const MAX_URL: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_contain_the_path_of_the_api() {
        for url in [
            "http://pdns:8081",
            "http://pdns:8081/",
            "http://pdns:8081/api/v1",
            " http://pdns:8081/api/v1/ ",
        ] {
            assert_eq!(base_url(url).unwrap(), "http://pdns:8081");
        }
        assert_eq!(base_url("https://gate.test/dns/api/v1").unwrap(), "https://gate.test/dns");
    }

    #[test]
    fn unusable_values_are_refused_without_the_key() {
        for (url, id, key, want) in [
            ("pdns:8081", "localhost", "k", "does not start with http://"),
            ("ftp://pdns", "localhost", "k", "does not start with http://"),
            ("http://user:secret@pdns", "localhost", "k", "must not contain credentials"),
            ("http://pdns/?x", "localhost", "k", "has a query"),
            ("http://pdns/ x", "localhost", "k", "is no URL"),
            ("http://pdns", "", "k", "serverID"),
            ("http://pdns", "..", "k", "serverID"),
            ("http://pdns", "a/b", "k", "serverID"),
            ("http://pdns", "localhost", " \n", "write api-key of the server into Secret a/b"),
            ("http://pdns", "localhost", "secret\n2", "character that cannot be sent"),
        ] {
            let error = Server::new(url, id, ApiKey::new(key), "Secret a/b").unwrap_err();
            assert!(matches!(error, SolveError::Misconfigured(_)), "{error:?}");
            let error = error.to_string();
            assert!(error.contains(want) && !error.contains("secret"), "{error}");
        }
        assert_eq!(format!("{:?}", ApiKey::new("secret")), "ApiKey");
        assert!(!format!("{:?}", ApiKey::new("secret").header()).contains("secret"));
    }
}
