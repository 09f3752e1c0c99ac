//! Selects the proxy for a server: [`ProxySettings`], with the semantics of Go's
//! `golang.org/x/net/http/httpproxy` for `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`. Pure, except
//! for [`ProxySettings::from_env`], which reads the environment.
//!
//! Not here: the connection, see [`tunnel`](super::tunnel).

mod address;
mod exceptions;
mod login;

use std::{fmt, str::FromStr};

use ::http::{HeaderValue, Uri, uri::Scheme};

pub use self::login::{Login, basic};
use self::{address::Address, exceptions::Exceptions};

/// The proxies of this process. The default is none.
#[derive(Clone, Debug, Default)]
pub struct ProxySettings {
    http: Option<Proxy>,
    https: Option<Proxy>,
    exceptions: Exceptions,
    remarks: Vec<ProxyRemark>,
}

/// One proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    scheme: &'static str,
    server: Option<Uri>,
    protocol: Protocol,
}

/// The protocol of a proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP, with CONNECT.
    Http {
        /// The value of `Proxy-Authorization`, if the URL of the proxy has credentials.
        authorization: Option<HeaderValue>,
    },
    /// SOCKS 5. As in Go, the proxy resolves names, for both socks5 and socks5h.
    Socks5 {
        /// The credentials of the proxy's URL.
        login: Option<Login>,
    },
}

/// Why a proxy cannot be used. Never quotes the URL, which may contain a password.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyError {
    /// Not a URL.
    #[error("it is not a URL such as http://proxy.example.org:3128: {0}")]
    NotUrl(&'static str),
    /// An unsupported protocol.
    #[error("its scheme is {0:?}: use an http://, https://, socks5:// or socks5h:// proxy")]
    Scheme(String),
}

/// A warning about an environment variable, for the log. Contains no credentials.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProxyRemark {
    /// The variable is ignored.
    #[error("the environment variable {variable} is not the URL of a proxy and is ignored: {why}")]
    Ignored {
        /// Name of the variable.
        variable: &'static str,
        /// What is wrong with its value.
        why: &'static str,
    },
    /// The URL has no valid host and port.
    #[error(
        "the environment variable {variable} names a proxy without a valid host and port, so servers \
         behind it cannot be reached; set a URL such as http://proxy.example.org:3128"
    )]
    Nowhere {
        /// Name of the variable.
        variable: &'static str,
    },
    /// An unsupported protocol.
    #[error(
        "the scheme {scheme:?} of the environment variable {variable} is not supported; http is used"
    )]
    Scheme {
        /// Name of the variable.
        variable: &'static str,
        /// The scheme.
        scheme: String,
    },
}

impl ProxySettings {
    /// Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or their names in lower case where those
    /// are not set. [`Self::remarks`] returns warnings about them.
    #[must_use]
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// As [`Self::from_env`], with `variable` instead of the environment.
    #[must_use]
    pub fn from_variables(variable: impl Fn(&'static str) -> Option<String>) -> Self {
        let filled = |name| variable(name).filter(|value| !value.trim().is_empty());
        let first = |names: [&'static str; 2]| {
            names.into_iter().find_map(|name| filled(name).map(|value| (name, value)))
        };
        let mut remarks = Vec::new();
        let mut proxy = |names| {
            let (variable, value) = first(names)?;
            let (proxy, remark) = of_variable(variable, &value);
            remarks.extend(remark);
            proxy
        };
        Self {
            http: proxy(["HTTP_PROXY", "http_proxy"]),
            https: proxy(["HTTPS_PROXY", "https_proxy"]),
            exceptions: first(["NO_PROXY", "no_proxy"])
                .map(|(_, value)| Exceptions::parse(&value))
                .unwrap_or_default(),
            remarks,
        }
    }

    /// Warnings about the environment variables.
    #[must_use]
    pub fn remarks(&self) -> &[ProxyRemark] {
        &self.remarks
    }

    /// Uses `proxy` for all servers, loopback addresses included, as `proxy-url` of a kubeconfig
    /// does.
    #[must_use]
    pub fn only(proxy: Proxy) -> Self {
        Self {
            http: Some(proxy.clone()),
            https: Some(proxy),
            exceptions: Exceptions::none(),
            remarks: Vec::new(),
        }
    }

    /// The proxy for `uri`.
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

    /// The `Proxy-Authorization` for a request to `uri`. Plain HTTP is sent to an HTTP proxy itself
    /// and not through a tunnel.
    #[must_use]
    pub fn authorization_for(&self, uri: &Uri) -> Option<&HeaderValue> {
        let is_plain = uri.scheme() == Some(&Scheme::HTTP);
        match &self.proxy_for(uri).filter(|_| is_plain)?.protocol {
            Protocol::Http { authorization } => authorization.as_ref(),
            Protocol::Socks5 { .. } => None,
        }
    }
}

/// For logs: the proxies without their credentials; empty where there is none.
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
    /// Its address, with the scheme http, or https where the proxy uses TLS; `None` where its URL
    /// has no valid host and port.
    #[must_use]
    pub fn server(&self) -> Option<&Uri> {
        self.server.as_ref()
    }

    /// Its protocol.
    #[must_use]
    pub fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Go's transport uses plain HTTP for unknown schemes.
    fn new(address: Address) -> Self {
        let (scheme, port) = match address.scheme.as_str() {
            "http" => ("http", Some(80)),
            "https" => ("https", Some(443)),
            "socks5" => ("socks5", Some(1080)),
            "socks5h" => ("socks5h", Some(1080)),
            _ => ("http", None),
        };
        let server = address.server(scheme == "https", port);
        let login = address.login;
        let protocol = if scheme.starts_with("socks5") {
            Protocol::Socks5 { login }
        } else {
            Protocol::Http { authorization: login.as_ref().and_then(Login::basic) }
        };
        Self { scheme, server, protocol }
    }
}

/// Parses the proxy of an environment variable: a URL, or a URL without `http://`. As Go's
/// `parseProxy`, except that the host `http`, which Go derives from some invalid values, is not
/// used.
fn of_variable(variable: &'static str, value: &str) -> (Option<Proxy>, Option<ProxyRemark>) {
    let mut written = address::parse(value);
    if !matches!(&written, Ok(it) if !it.scheme.is_empty() && !it.is_empty()) {
        let completed = address::parse(&format!("http://{value}"));
        written = match completed {
            Ok(_) if value.contains("://") => Ok(Address::default()),
            Ok(address) => Ok(address),
            Err(_) => written,
        };
    }
    let address = match written {
        Ok(address) => address,
        Err(why) => return (None, Some(ProxyRemark::Ignored { variable, why })),
    };
    let scheme = address.scheme.clone();
    let proxy = Proxy::new(address);
    let remark = if proxy.server.is_none() {
        Some(ProxyRemark::Nowhere { variable })
    } else {
        (scheme != proxy.scheme).then_some(ProxyRemark::Scheme { variable, scheme })
    };
    (Some(proxy), remark)
}

impl FromStr for Proxy {
    type Err = ProxyError;

    /// Parses a URL with a supported scheme, as in `proxy-url` of a kubeconfig.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let address = address::parse(text).map_err(ProxyError::NotUrl)?;
        if !matches!(address.scheme.as_str(), "http" | "https" | "socks5" | "socks5h") {
            return Err(ProxyError::Scheme(address.scheme));
        }
        let proxy = Self::new(address);
        match proxy.server {
            Some(_) => Ok(proxy),
            None => Err(ProxyError::NotUrl("its host or port is not valid")),
        }
    }
}

/// Without its credentials.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(server) = &self.server else {
            return f.write_str("a URL without a valid host and port");
        };
        let host = server.host().unwrap_or_default();
        write!(f, "{}://{host}:{}", self.scheme, server.port_u16().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
