//! Which proxy leads to a server: [`ProxySettings`], with the meaning of Go's
//! `golang.org/x/net/http/httpproxy` for `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. Pure, but for
//! [`ProxySettings::from_env`], which reads the environment.
//!
//! Not here: the connection, see [`tunnel`](super::tunnel). SOCKS proxies are refused.

mod exceptions;

use std::{fmt, net::IpAddr, str::FromStr};

use ::http::{HeaderValue, Uri, uri::Scheme};
use base64::{Engine, prelude::BASE64_STANDARD};
use url::Url;
use zeroize::Zeroizing;

use self::exceptions::Exceptions;

/// The proxies of this process. The default is none.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Exceptions,
}

/// One proxy that speaks HTTP.
#[derive(Clone, Eq, PartialEq)]
pub struct Proxy {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

/// Why a proxy cannot be used. Says nothing of the URL, which may hold a password.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyError {
    /// No URL.
    #[error("it is not a URL such as http://proxy.example.org:3128: {0}")]
    NotUrl(String),
    /// A protocol that is not spoken.
    #[error("its scheme is {0:?}: use an http:// or https:// proxy")]
    Scheme(String),
    /// A variable of the environment that holds no usable proxy.
    #[error("the environment variable {variable} holds no usable proxy: {why}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it.
        why: Box<ProxyError>,
    },
}

impl ProxySettings {
    /// What `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` say, or their names in lower case where those
    /// are not set.
    ///
    /// # Errors
    /// When one of the proxies cannot be used. Go ignores such a proxy in silence.
    pub fn from_env() -> Result<Self, ProxyError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Self::from_env`], with `variable` in the place of the environment.
    ///
    /// # Errors
    /// When one of the proxies cannot be used.
    pub fn from_variables(
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ProxyError> {
        let filled = |name| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| filled(name).map(|value| (name, value)))
        };
        let proxy = |names| {
            let parse = |(variable, value): (&'static str, String)| {
                value.parse().map_err(|why| ProxyError::Variable { variable, why: Box::new(why) })
            };
            first(names).map(parse).transpose()
        };
        Ok(Self {
            http: proxy(["HTTP_PROXY", "http_proxy"])?,
            https: proxy(["HTTPS_PROXY", "https_proxy"])?,
            exceptions: first(["NO_PROXY", "no_proxy"])
                .map(|(_, value)| Exceptions::parse(&value))
                .unwrap_or_default(),
        })
    }

    /// `proxy` for everything, loopback addresses included, as `proxy-url` of a kubeconfig means it.
    #[must_use]
    pub fn only(proxy: Proxy) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy), exceptions: Exceptions::none() }
    }

    /// The proxy on the way to `uri`.
    #[must_use]
    pub fn proxy_for(&self, uri: &Uri) -> Option<&Proxy> {
        let (proxy, port) = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => (self.https.as_ref()?, 443),
            Some(scheme) if *scheme == Scheme::HTTP => (self.http.as_ref()?, 80),
            _ => return None,
        };
        let host = uri.host()?.trim_matches(['[', ']']);
        let is_direct = self.exceptions.hold(host, uri.port_u16().unwrap_or(port));
        (!is_direct).then_some(proxy)
    }

    /// What a request to `uri` must carry as `Proxy-Authorization`: plain HTTP goes to the proxy
    /// itself and not through a tunnel.
    #[must_use]
    pub fn authorization_for(&self, uri: &Uri) -> Option<&HeaderValue> {
        let is_plain = uri.scheme() == Some(&Scheme::HTTP);
        self.proxy_for(uri).filter(|_| is_plain)?.authorization.as_ref()
    }
}

/// For a log: the proxies without their credentials, and empty where there is none.
impl fmt::Display for ProxySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(proxy) = &self.https {
            parts.push(format!("https through {proxy}"));
        }
        if let Some(proxy) = &self.http {
            parts.push(format!("http through {proxy}"));
        }
        if !parts.is_empty() && !self.exceptions.text().is_empty() {
            parts.push(format!("not for {}", self.exceptions.text()));
        }
        f.write_str(&parts.join(", "))
    }
}

impl Proxy {
    /// Where it is: scheme, host and port.
    #[must_use]
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The value of `Proxy-Authorization`, where its URL holds credentials.
    #[must_use]
    pub fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// A URL, or a host with or without a port, which means plain HTTP to the proxy.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let text = text.trim();
        // `proxy:3128` would read as a URL with the scheme `proxy`.
        let url = if text.contains("://") {
            Url::parse(text)
        } else {
            Url::parse(&format!("http://{text}"))
        };
        let url = url.map_err(|error| ProxyError::NotUrl(error.to_string()))?;
        let scheme = url.scheme().to_owned();
        if !matches!(scheme.as_str(), "http" | "https") {
            return Err(ProxyError::Scheme(scheme));
        }
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        let uri = format!("{scheme}://{host}:{port}/").parse();
        let uri = uri.map_err(|_| ProxyError::NotUrl("its host is not valid".to_owned()))?;
        Ok(Self { uri, authorization: authorization(&url) })
    }
}

fn authorization(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    basic(url.username(), url.password().unwrap_or_default())
}

/// Basic authentication (RFC 7617) with the user and the password of a URL, which have percent
/// encoding there.
#[must_use]
pub fn basic(user: &str, password: &str) -> Option<HeaderValue> {
    let mut pair = Zeroizing::new(decoded(user));
    pair.push(b':');
    pair.extend(decoded(password));
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(pair.as_slice())));
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Without percent encoding.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let code = code.filter(|_| *first == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or("http");
        let host = self.uri.host().unwrap_or_default();
        write!(f, "{scheme}://{host}:{}", self.uri.port_u16().unwrap_or(80))
    }
}

/// Without its credentials.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

/// Whether `host` is this machine, which no variable leads to through a proxy.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests;
