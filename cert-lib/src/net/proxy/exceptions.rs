//! `NO_PROXY`: the servers that are reached directly.

use std::net::IpAddr;

use url::Host;

use crate::net::cidr::Cidr;

/// The servers that are reached without a proxy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Exceptions {
    this_machine: bool,
    entries: Vec<Entry>,
    text: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Entry {
    /// `*`
    All,
    /// `10.0.0.0/8`
    Network(Cidr),
    /// `10.0.0.1`, `10.0.0.1:8443`
    Address(IpAddr, Option<String>),
    /// `example.org` (the name and all names below it), `.example.org` (only names below it). The
    /// suffix begins with a dot.
    Domain { suffix: String, itself: bool, port: Option<String> },
}

impl Default for Exceptions {
    fn default() -> Self {
        Self::parse("")
    }
}

impl Exceptions {
    /// No exception at all.
    pub(super) fn none() -> Self {
        Self { this_machine: false, entries: Vec::new(), text: String::new() }
    }

    /// The entries of `text`, and this machine. Invalid entries are skipped, as in Go.
    pub(super) fn parse(text: &str) -> Self {
        let parts = text.split(',').map(|part| part.trim().to_ascii_lowercase());
        let entries = parts.filter_map(|part| entry(&part)).collect();
        Self { this_machine: true, entries, text: text.trim().to_owned() }
    }

    /// The original text.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether `host` at `port` is reached directly.
    pub(super) fn hold(&self, host: &str, port: u16) -> bool {
        if self.this_machine && is_this_machine(host) {
            return true;
        }
        let host = host.trim().to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let port = port.to_string();
        let fits = |wanted: &Option<String>| wanted.as_ref().is_none_or(|it| *it == port);
        self.entries.iter().any(|entry| match (entry, address) {
            (Entry::All, _) => true,
            (Entry::Network(network), Some(address)) => network.contains(address),
            (Entry::Address(wanted, port), Some(address)) => {
                *wanted == address.to_canonical() && fits(port)
            }
            (Entry::Domain { suffix, itself, port }, None) => {
                let below = host.ends_with(suffix.as_str());
                let same = *itself && suffix.get(1..) == Some(host.as_str());
                (below || same) && fits(port)
            }
            (Entry::Network(_) | Entry::Address(..), None) | (Entry::Domain { .. }, Some(_)) => {
                false
            }
        })
    }
}

fn entry(part: &str) -> Option<Entry> {
    if part == "*" {
        return Some(Entry::All);
    }
    if part.contains('/')
        && let Ok(network) = part.parse()
    {
        return Some(Entry::Network(network));
    }
    let (host, port) = split(part);
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Some(Entry::Address(address.to_canonical(), port));
    }
    let name = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
    let (itself, name) = match name.strip_prefix('.') {
        Some(rest) => (false, rest),
        None => (true, name),
    };
    if name.is_empty() {
        return None;
    }
    Some(Entry::Domain { suffix: format!(".{}", ascii(name)), itself, port })
}

/// Host and port. Several colons without brackets are an IPv6 address.
fn split(part: &str) -> (&str, Option<String>) {
    match part.rsplit_once(':') {
        Some((host, port)) if host.ends_with(']') || !host.contains(':') => {
            (host, Some(port.to_owned()).filter(|port| !port.is_empty()))
        }
        _ => (part, None),
    }
}

/// The ASCII form (Punycode).
fn ascii(name: &str) -> String {
    match Host::parse(name) {
        Ok(Host::Domain(name)) if !name.is_empty() => name,
        _ => name.to_owned(),
    }
}

/// Whether `host` is this machine, for which the variables never apply.
fn is_this_machine(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|it| it.to_canonical().is_loopback())
}
