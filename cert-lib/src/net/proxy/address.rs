//! Parses the URL of a proxy as Go's `net/url` does. The URLs that it rejects are ignored in the
//! environment and refused in a kubeconfig. Messages never quote the URL, which may contain a
//! password.

use std::net::Ipv6Addr;

use ::http::Uri;
use url::Host;

use super::login::{Login, unescaped};

/// The parts of a URL.
#[derive(Debug, Default)]
pub(super) struct Address {
    /// In lower case; empty without a scheme.
    pub(super) scheme: String,
    host: String,
    /// Empty after a trailing colon.
    port: Option<String>,
    pub(super) login: Option<Login>,
}

impl Address {
    /// Whether it has neither host nor port.
    pub(super) fn is_empty(&self) -> bool {
        self.host.is_empty() && self.port.is_none()
    }

    /// The server to connect to; `None` without a valid host and port.
    pub(super) fn server(&self, tls: bool, default_port: Option<u16>) -> Option<Uri> {
        let port = match self.port.as_deref() {
            None | Some("") => default_port?,
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        };
        let host = match self.host.as_str() {
            "" if self.is_empty() => return None,
            // As Go's dialer does.
            "" => "localhost".to_owned(),
            host if host.is_ascii() => host.to_owned(),
            host => Host::parse(host).ok()?.to_string(),
        };
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{host}:{port}/").parse().ok()
    }
}

/// Go's `url.Parse`, except for the path.
///
/// # Errors
/// When Go returns one.
pub(super) fn parse(text: &str) -> Result<Address, &'static str> {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    if text.chars().any(|it| it.is_ascii_control()) {
        return Err("it holds a control character, such as a line end");
    }
    let (scheme, rest) = split_scheme(text)?;
    let scheme = scheme.to_ascii_lowercase();
    let rest = rest.split('?').next().unwrap_or_default();
    let unescapable = "it holds a % without two hexadecimal digits";
    unescaped(fragment).ok_or(unescapable)?;
    if !rest.starts_with('/') {
        if !scheme.is_empty() {
            return Ok(Address { scheme, ..Address::default() });
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("what is before its first colon is no scheme");
        }
    }
    let after = rest.strip_prefix("//").filter(|it| !scheme.is_empty() || !it.starts_with('/'));
    let (authority, path) = match after {
        Some(after) => after.split_at(after.find('/').unwrap_or(after.len())),
        None => ("", rest),
    };
    unescaped(path).ok_or(unescapable)?;
    let (login, server) = match authority.rsplit_once('@') {
        Some((login, server)) => (Some(Login::parse(login)?), server),
        None => (None, authority),
    };
    let (host, port) = split_port(server)?;
    Ok(Address { scheme, host, port, login })
}

fn split_scheme(text: &str) -> Result<(&str, &str), &'static str> {
    let is_scheme = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|it| it.is_ascii_alphanumeric() || "+-.".contains(it))
    };
    match text.split_once(':') {
        Some(("", _)) => Err("it begins with a colon"),
        Some((scheme, rest)) if is_scheme(scheme) => Ok((scheme, rest)),
        _ => Ok(("", text)),
    }
}

/// The host, with brackets around an IPv6 address, and the digits of the port.
fn split_port(server: &str) -> Result<(String, Option<String>), &'static str> {
    let (host, port) = match server.strip_prefix('[') {
        Some(inside) => {
            let (address, port) = inside.rsplit_once(']').ok_or(NO_HOST)?;
            (bracketed(address)?, port)
        }
        None => {
            let (host, port) = server.split_at(server.find(':').unwrap_or(server.len()));
            (named(host)?, port)
        }
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        Some(digits) if digits.bytes().all(|it| it.is_ascii_digit()) => {
            Ok((host, Some(digits.to_owned())))
        }
        _ => Err("its port is not a number"),
    }
}

/// An IPv6 address, optionally with a zone (RFC 6874).
fn bracketed(inside: &str) -> Result<String, &'static str> {
    let address = inside.split("%25").next().unwrap_or_default();
    address.parse::<Ipv6Addr>().map_err(|_| NO_HOST)?;
    Ok(format!("[{inside}]"))
}

fn named(text: &str) -> Result<String, &'static str> {
    let fits = |it: char| {
        !it.is_ascii() || it.is_ascii_alphanumeric() || "-._~!$&'()*+,;=<>\"]%".contains(it)
    };
    // Only non-ASCII characters may be percent-encoded.
    let encodes =
        |after: &str| after.starts_with(|it: char| matches!(it, '8' | '9' | 'a'..='f' | 'A'..='F'));
    if !text.chars().all(fits) || !text.split('%').skip(1).all(encodes) {
        return Err(NO_HOST);
    }
    let bytes = unescaped(text).ok_or(NO_HOST)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

const NO_HOST: &str = "its host is not valid";
