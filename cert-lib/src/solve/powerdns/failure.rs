//! Why a request failed, as a message that says what to do. Pure.

use ::http::StatusCode;
use bytes::Bytes;

use super::{server::Server, wire::ErrorBody};
use crate::{model::name::DnsName, net::HttpError, solve::SolveError};

/// A request without success.
#[derive(Debug)]
pub(super) enum Failure {
    /// No answer.
    Transport(HttpError),
    /// An answer with an error status.
    Status(StatusCode, Bytes),
    /// An answer that is not from the API.
    Syntax,
}

/// What was requested.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    /// The list of zones.
    Zones,
    /// A zone that the server has listed before.
    Zone(&'a DnsName),
}

impl Failure {
    /// The message for users. Never contains the key, and bounds what the server wrote.
    pub(super) fn explain(self, server: &Server, target: Target<'_>) -> SolveError {
        let url = &server.url;
        match self {
            Self::Transport(error) => transport(&error, url),
            Self::Status(status, body) => refused(status, &body, server, target),
            Self::Syntax => SolveError::Misconfigured(format!(
                "{url} does not answer as the API of PowerDNS: check url; it is the address of the \
                 API, not of a web page before it"
            )),
        }
    }
}

fn transport(error: &HttpError, url: &str) -> SolveError {
    use SolveError::{Misconfigured, Unavailable};
    match error {
        HttpError::Untrusted { .. } => Misconfigured(format!(
            "PowerDNS {url}: {error}: write the CA of the server into caBundle, or renew its \
             certificate"
        )),
        HttpError::Unreachable { .. } => Unavailable(format!(
            "PowerDNS {url}: {error}: check url, the server (webserver=yes, webserver-address, \
             webserver-port) and the network between"
        )),
        HttpError::Broken { .. } => Unavailable(format!(
            "PowerDNS {url}: {error}: the server restarts, or webserver-allow-from does not contain \
             the address of this client"
        )),
        HttpError::TimedOut { .. } => Unavailable(format!(
            "PowerDNS {url} is slow: {error}: check the load of the server and its database"
        )),
        HttpError::TooLarge { .. } => {
            Unavailable(format!("PowerDNS {url}: {error}: check that url leads to PowerDNS"))
        }
    }
}

fn refused(status: StatusCode, body: &Bytes, server: &Server, target: Target<'_>) -> SolveError {
    use SolveError::{CredentialRefused, Misconfigured, Unavailable};
    let Server { url, id, credential, .. } = server;
    let said = quoted(body, server);
    match (status.as_u16(), target) {
        (401 | 403, _) => CredentialRefused(format!(
            "PowerDNS {url} refuses the API key ({status}): compare {credential} with api-key of the \
             server"
        )),
        (404, Target::Zones) => Misconfigured(format!(
            "PowerDNS {url} has no server {id:?} ({status}{said}): set serverID to localhost, which \
             PowerDNS servers have; check url, and that the server runs with api=yes"
        )),
        (404, Target::Zone(zone)) => Misconfigured(format!(
            "PowerDNS {url} has no zone {zone} any more ({status}{said}): create it, or change zone"
        )),
        (405, _) => Misconfigured(format!(
            "PowerDNS {url} does not permit changes ({status}{said}): check for a read-only API, and \
             what a proxy before it permits"
        )),
        (400 | 422, Target::Zone(zone)) => Misconfigured(format!(
            "PowerDNS {url} refuses the change of zone {zone} ({status}{said}): check the zone and \
             ttl"
        )),
        (408 | 429 | 500..=599, _) => Unavailable(format!(
            "PowerDNS {url} fails ({status}{said}): look into its log and check its database"
        )),
        _ => Misconfigured(format!(
            "PowerDNS {url} gives an unexpected answer ({status}{said}): check that url is the \
             address of its API"
        )),
    }
}

/// The beginning of the error text of the server, with a colon before it; empty without one.
fn quoted(body: &Bytes, server: &Server) -> String {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = server.key.hide(&text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = line.chars().filter(|c| !c.is_control()).take(MAX_QUOTED).collect();
    if short.is_empty() { short } else { format!(": {short:?}") }
}

/// Longest quotation of a server, in characters.
const MAX_QUOTED: usize = 200;
