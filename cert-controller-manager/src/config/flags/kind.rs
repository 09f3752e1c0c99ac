//! The types of the values of flags.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use cert_lib::{model::name::DnsName, net::cidr::Cidr, solve::dns01::Nameserver};
use tracing_subscriber::EnvFilter;

use crate::{answer::Mailbox, config::duration};

/// The type of a value. Some have a name for the value in the help.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `true` or `false`; the flag alone is `true`.
    Bool,
    /// Any string.
    Text(&'static str),
    /// A path.
    Path,
    /// Paths, separated by colons.
    Paths,
    /// A path, or `IN-CLUSTER` or `ENVIRONMENT` as in upstream.
    Kubeconfig,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A number in a range.
    Number {
        /// Minimum.
        least: u32,
        /// Maximum.
        most: u32,
    },
    /// A duration in the format of Go.
    Duration,
    /// Strings, separated by commas.
    List(&'static str),
    /// Name servers, separated by commas.
    Nameservers,
    /// Ranges of IP addresses, separated by commas.
    Ranges,
    /// A log level or filter.
    LogLevel,
    /// An address with a port; the flag may be repeated.
    Sockets,
    /// A DNS zone; the flag may be repeated.
    Zones,
    /// An IP address; the flag may be repeated.
    Addresses,
    /// The name of a host.
    Host,
    /// An email address, or the DNS name for one.
    Mailbox,
}

/// Any non-negative number.
pub const NUMBER: Kind = Kind::Number { least: 0, most: u32::MAX };

impl Kind {
    /// The name of the value in the help.
    #[must_use]
    pub fn value_name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Text(name) | Self::List(name) => name,
            Self::Path | Self::Paths | Self::Kubeconfig => "FILE",
            Self::Word(_) => "WORD",
            Self::Number { .. } => "N",
            Self::Duration => "DURATION",
            Self::Nameservers => "SERVER",
            Self::Ranges => "CIDR,…",
            Self::LogLevel => "LEVEL",
            Self::Sockets => "ADDRESS:PORT",
            Self::Zones => "ZONE",
            Self::Addresses => "IP",
            Self::Host => "HOST",
            Self::Mailbox => "EMAIL",
        }
    }

    /// The name of the type in upstream.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Number { .. } => "int",
            Self::Word(words) if words.iter().all(|word| word.parse::<u32>().is_ok()) => "int",
            Self::Duration => "duration",
            Self::Text(_)
            | Self::Path
            | Self::Paths
            | Self::Kubeconfig
            | Self::Word(_)
            | Self::List(_)
            | Self::Nameservers
            | Self::Ranges
            | Self::LogLevel
            | Self::Sockets
            | Self::Zones
            | Self::Addresses
            | Self::Host
            | Self::Mailbox => "string",
        }
    }

    /// Whether each repetition adds a value. For other flags, the last value is used.
    #[must_use]
    pub fn repeats(self) -> bool {
        matches!(self, Self::Sockets | Self::Zones | Self::Addresses)
    }

    /// The separator of several values.
    #[must_use]
    pub fn separator(self) -> Option<&'static str> {
        match self {
            Self::List(_) | Self::Nameservers | Self::Ranges => Some(","),
            Self::Paths => Some(":"),
            _ => None,
        }
    }

    /// Validates a value.
    ///
    /// # Errors
    /// For an invalid value; the message has the allowed values.
    pub fn check(self, text: &str) -> Result<(), String> {
        match self {
            Self::Text(_) | Self::Path | Self::Paths | Self::Kubeconfig | Self::List(_) => Ok(()),
            Self::Bool => boolean(text).map(drop),
            Self::Word(words) => match words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
                true => Ok(()),
                false => Err(format!("{text:?} is none of {}", words.join(", "))),
            },
            Self::Number { least, most } => match text.parse::<u32>() {
                Ok(number) if (least..=most).contains(&number) => Ok(()),
                _ if most == u32::MAX => Err(format!("{text:?} is no number from {least} on")),
                _ => Err(format!("{text:?} is no number from {least} to {most}")),
            },
            Self::Duration => duration(text).map(drop),
            Self::Nameservers => items(text, ",").try_for_each(is::<Nameserver>),
            Self::Ranges => items(text, ",").try_for_each(is::<Cidr>),
            Self::LogLevel => log_filter(text).map(drop),
            Self::Sockets => is::<SocketAddr>(text)
                .map_err(|_| format!("{text:?} is no ADDRESS:PORT, such as 0.0.0.0:53")),
            Self::Zones | Self::Host => match text.parse::<DnsName>() {
                Ok(name) if name.is_wildcard() => Err(format!("{text:?} is a wildcard")),
                Ok(_) => Ok(()),
                Err(why) => Err(format!("{text:?}: {why}")),
            },
            Self::Addresses => is::<IpAddr>(text).map_err(|_| format!("{text:?} is no IP address")),
            Self::Mailbox => is::<Mailbox>(text),
        }
    }
}

/// Splits several values, trims them, and removes empty ones.
pub fn items<'a>(text: &'a str, separator: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(separator).map(str::trim).filter(|item| !item.is_empty())
}

/// Parses booleans of Go, and common words.
///
/// # Errors
/// For an invalid value; the message has the allowed values.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" | "yes" | "y" | "on" => Ok(true),
        "false" | "f" | "0" | "no" | "n" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// The filter for a log level of upstream, or the filter itself.
///
/// # Errors
/// For an invalid value; the message has the allowed values.
pub fn log_filter(text: &str) -> Result<String, String> {
    if text.contains(['=', ',']) {
        return match EnvFilter::try_new(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("{text:?} is no filter: {error}")),
        };
    }
    match text.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Ok("error".to_owned()),
        "warn" | "warning" => Ok("warn".to_owned()),
        "info" => Ok("info".to_owned()),
        "debug" => Ok("debug".to_owned()),
        "trace" => Ok("trace".to_owned()),
        "off" => Ok("off".to_owned()),
        _ => Err(format!(
            "{text:?} is none of error, warn, info, debug, trace, and no filter such as \
             info,kube_client=debug"
        )),
    }
}

fn is<T: FromStr<Err: Display>>(text: &str) -> Result<(), String> {
    text.parse::<T>().map(drop).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_levels_of_upstream_and_filters_are_accepted() {
        for (text, filter) in [
            ("Info", Some("info")),
            ("warning", Some("warn")),
            ("fatal", Some("error")),
            ("info,kube_client=debug", Some("info,kube_client=debug")),
            ("inof", None),
            ("", None),
            ("kube_client=loud", None),
        ] {
            assert_eq!(log_filter(text).ok().as_deref(), filter, "{text}");
        }
    }
}
