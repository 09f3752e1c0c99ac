//! What the servers show for a challenge name, and what follows from it. Never quotes a value.

use futures::future::join_all;
use jiff::SignedDuration;

use crate::{
    model::name::DnsName,
    net::{Answer, Record, RecordKind, ResolveError, Resolver, Server},
};

/// The result of one check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Visibility {
    /// All relevant servers have all values.
    Seen {
        /// All of these servers are authoritative for the name (AA bit), so no cache is involved.
        authoritative: bool,
    },
    /// At least one relevant server lacks a value. Never quotes a value.
    NotSeen {
        /// A message for users that names the server.
        why: String,
    },
    /// The check requires a delay first, and did not look.
    Waiting {
        /// A message for users.
        why: String,
        /// The rest of the delay.
        left: SignedDuration,
    },
}

/// What one server has.
pub(super) enum ServerView {
    Shown {
        authoritative: bool,
    },
    Missing(String),
    /// It does not answer.
    Silent(String),
    /// Failing or refusing.
    Unusable(String),
    /// Not authoritative for this name: it delegates the name, or is lame.
    Referred(String),
}

impl ServerView {
    /// Whether the server answered for the name.
    pub(super) fn is_useful(&self) -> bool {
        match self {
            Self::Shown { .. } | Self::Missing(_) => true,
            Self::Silent(_) | Self::Unusable(_) | Self::Referred(_) => false,
        }
    }

    /// Why the values were not found.
    pub(super) fn reason(&self) -> Option<&str> {
        match self {
            Self::Shown { .. } => None,
            Self::Missing(why) | Self::Silent(why) | Self::Unusable(why) | Self::Referred(why) => {
                Some(why)
            }
        }
    }
}

/// How a server without a usable answer counts.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Unusable {
    /// The operator requires this server to have the values.
    Counts,
    /// The CA's resolver will skip it as well.
    IsSkipped,
}

/// Asks all `servers` at once for the TXT records of `fqdn`.
pub(super) async fn ask_all(
    resolver: &dyn Resolver,
    servers: &[Server],
    fqdn: &DnsName,
    values: &[String],
) -> Vec<ServerView> {
    join_all(servers.iter().map(async |server| {
        let answer = resolver.ask(server, fqdn, RecordKind::Txt).await;
        view(server, values, answer)
    }))
    .await
}

fn view(server: &Server, values: &[String], answer: Result<Answer, ResolveError>) -> ServerView {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error @ ResolveError::Unreachable { .. }) => {
            return ServerView::Silent(error.to_string());
        }
        Err(error) => return ServerView::Unusable(error.to_string()),
    };
    let found: Vec<&str> = answer
        .records
        .iter()
        .filter_map(|record| match record {
            Record::Text(text) => Some(text.as_str()),
            Record::Address(_) | Record::NameServer(_) => None,
        })
        .collect();
    let present = values.iter().filter(|value| found.contains(&value.as_str())).count();
    if present == values.len() {
        ServerView::Shown { authoritative: answer.authoritative }
    } else if answer.no_such_name && !answer.authoritative {
        ServerView::Unusable(format!(
            "name server {server} answers NXDOMAIN without authority, maybe from a cache"
        ))
    } else if found.is_empty() && !answer.authoritative && answer.alias.is_none() {
        ServerView::Referred(format!("name server {server} has no record and is not authoritative"))
    } else if let Some(target) = &answer.alias {
        ServerView::Missing(format!(
            "name server {server} answers with a CNAME to {target}; set followCNAME to have the \
             record published there, or take the CNAME away (one that comes from a wildcard yields \
             to the record)"
        ))
    } else if answer.no_such_name {
        ServerView::Missing(format!("name server {server} answers NXDOMAIN"))
    } else {
        let (of, others) = (values.len(), found.len().saturating_sub(present));
        ServerView::Missing(format!(
            "name server {server} shows {present} of {of} values (and {others} others)"
        ))
    }
}

/// The result of a check from the `views` of all servers.
pub(super) fn evaluate(fqdn: &DnsName, views: &[ServerView], unusable: Unusable) -> Visibility {
    let mut all_authoritative = true;
    let (mut shown, mut missing, mut useless) = (false, None, None);
    for view in views {
        match view {
            ServerView::Shown { authoritative } => {
                shown = true;
                all_authoritative &= *authoritative;
            }
            ServerView::Missing(why) => missing = missing.or(Some(why)),
            ServerView::Silent(why) | ServerView::Unusable(why) | ServerView::Referred(why) => {
                useless = useless.or(Some(why));
            }
        }
    }
    let against = match unusable {
        Unusable::Counts => missing.or(useless),
        Unusable::IsSkipped if shown => missing,
        Unusable::IsSkipped => missing.or(useless),
    };
    match against {
        Some(why) => not_seen(format!("{fqdn}: {why}")),
        None if shown => Visibility::Seen { authoritative: all_authoritative },
        None => not_seen(format!("{fqdn}: there is no name server to ask")),
    }
}

pub(super) fn not_seen(why: String) -> Visibility {
    Visibility::NotSeen { why }
}
