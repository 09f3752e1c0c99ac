//! The validated connection parameters of one API server, from a kubeconfig.

use std::{path::PathBuf, sync::Arc};

use cert_lib::net::proxy::Proxy;
use http::{HeaderName, HeaderValue, Uri};
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use serde_json::Value;
use zeroize::Zeroizing;

/// See the [module](self). Has no `Debug`, because it contains secrets.
#[derive(Clone)]
pub(super) struct Connection {
    /// Scheme, host and path prefix, without user and password.
    pub(super) server: Uri,
    pub(super) namespace: String,
    pub(super) trust: Trust,
    /// `tls-server-name`
    pub(super) server_name: Option<ServerName<'static>>,
    /// `proxy-url`, which takes precedence over the environment.
    pub(super) proxy: Option<Proxy>,
    pub(super) identity: Identity,
    /// Headers of `as`, `as-groups` and so on.
    pub(super) impersonation: Vec<(HeaderName, HeaderValue)>,
}

/// How server certificates are verified.
#[derive(Clone)]
pub(super) enum Trust {
    /// Against the trust store of the system.
    System,
    /// Against these CA or server certificates in PEM.
    Only(Vec<u8>),
    /// Not at all.
    Anything,
}

/// Our credentials. A client certificate may be combined with a credential.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certificate: Option<Arc<CertifiedKey>>,
    pub(super) credential: Credential,
}

/// The credential of a request.
#[derive(Clone)]
pub(super) enum Credential {
    /// No header.
    None,
    /// A constant header: a token, or user and password.
    Fixed(HeaderValue),
    /// A token in a file, which may change.
    TokenFile {
        path: PathBuf,
        /// Used while the file cannot be read.
        fallback: Option<HeaderValue>,
    },
    /// Output of a plugin: a token, a client certificate, or both.
    Plugin(Arc<Plugin>),
}

/// A credential plugin (`exec`).
pub(super) struct Plugin {
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, Zeroizing<String>)>,
    pub(super) api_version: String,
    pub(super) install_hint: String,
    /// Cluster information passed to the plugin.
    pub(super) cluster: Option<Value>,
}
