//! How one API server is reached: what a kubeconfig says, chosen, checked and read, as values.

use std::{path::PathBuf, sync::Arc};

use cert_lib::net::proxy::Proxy;
use http::{HeaderName, HeaderValue, Uri};
use rustls::{pki_types::ServerName, sign::CertifiedKey};
use serde_json::Value;
use zeroize::Zeroizing;

/// See the [module](self). Has no `Debug`: it holds secrets.
#[derive(Clone)]
pub(super) struct Connection {
    /// With scheme and host, and without user and password; its path goes before that of each request.
    pub(super) server: Uri,
    pub(super) namespace: String,
    pub(super) trust: Trust,
    /// The name in the server's certificate, where it is not that of the URL.
    pub(super) server_name: Option<ServerName<'static>>,
    /// `proxy-url`, which wins over the environment.
    pub(super) proxy: Option<Proxy>,
    pub(super) identity: Identity,
    /// Whom we act for.
    pub(super) impersonation: Vec<(HeaderName, HeaderValue)>,
}

/// Which servers are trusted.
#[derive(Clone)]
pub(super) enum Trust {
    /// Those whose certificates this machine trusts.
    System,
    /// Those that these authorities signed, and these certificates themselves. In PEM.
    Only(Vec<u8>),
    /// All.
    Anything,
}

/// Who we are. A client certificate may go with any of the others.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) certificate: Option<Arc<CertifiedKey>>,
    pub(super) credential: Credential,
}

/// What goes into a request.
#[derive(Clone)]
pub(super) enum Credential {
    /// Nothing.
    None,
    /// The same header for ever: a token, or a name and a password.
    Fixed(HeaderValue),
    /// A token in a file that others write.
    TokenFile {
        path: PathBuf,
        /// For as long as the file cannot be read.
        instead: Option<HeaderValue>,
    },
    /// What a program hands out: a token, a client certificate, or both.
    Plugin(Arc<Plugin>),
}

/// A program that hands out credentials.
pub(super) struct Plugin {
    pub(super) command: String,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, Zeroizing<String>)>,
    pub(super) api_version: String,
    pub(super) install_hint: String,
    /// Cluster information passed to the plugin.
    pub(super) cluster: Option<Value>,
}
