//! Follows the CNAMEs of a challenge name to their end (RFC 8555 section 8.4 lets the CA follow
//! them), so that the proof can be published in a dedicated zone.
//!
//! Only a CNAME at the name itself is followed. One that a wildcard synthesizes (RFC 4592) was
//! mostly created for web servers, and the owner of its target is another party.

use futures::future::join_all;
use tokio::time::timeout;

use super::propagation::{DEADLINE, Propagation};
use crate::{
    model::{name::DnsName, request::digest},
    net::{Answer, RecordKind, Resolver, Server},
    solve::SolveError,
};

/// Why a CNAME is not followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DelegationError {
    /// The chain is a loop. The message is upstream's.
    #[error("found recursive CNAME record to {0}")]
    Loop(DnsName),
    /// More than any useful chain, and each name costs queries.
    #[error("{start}: more than {MAX_HOPS} CNAMEs follow each other, the last one leads to {last}")]
    TooLong {
        /// Start of the chain.
        start: DnsName,
        /// Last name that was reached.
        last: DnsName,
    },
    /// The CNAME is synthesized from a wildcard.
    #[error(
        "the CNAME at {name} to {target} comes from the wildcard {wildcard}: create a CNAME for \
         {name} itself, which must not lead there, too, or set followCNAME to false"
    )]
    Wildcard {
        /// Owner of the CNAME.
        name: DnsName,
        /// Target of the CNAME.
        target: DnsName,
        /// The wildcard.
        wildcard: DnsName,
    },
    /// No authoritative server answered, or they contradict each other: a retry may succeed.
    #[error("cannot find out whether {name} is a CNAME: {why}")]
    Unknown {
        /// The name.
        name: DnsName,
        /// A message for users.
        why: String,
    },
}

impl DelegationError {
    /// The same as the error of a solver.
    #[must_use]
    pub fn into_solve_error(self) -> SolveError {
        match self {
            Self::Unknown { .. } => SolveError::Unavailable(self.to_string()),
            Self::Loop(_) | Self::TooLong { .. } | Self::Wildcard { .. } => {
                SolveError::Misconfigured(self.to_string())
            }
        }
    }
}

impl Propagation {
    /// The target of `start`: the end of its CNAMEs, or the name itself.
    ///
    /// # Errors
    /// See [`DelegationError`].
    pub async fn follow(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
    ) -> Result<DnsName, DelegationError> {
        let walk = timeout(DEADLINE, self.walk(resolver, start));
        walk.await.unwrap_or_else(|_| {
            let why = format!("it took longer than {} s", DEADLINE.as_secs());
            Err(DelegationError::Unknown { name: start.clone(), why })
        })
    }

    async fn walk(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
    ) -> Result<DnsName, DelegationError> {
        let mut passed = Vec::new();
        let mut name = start.clone();
        loop {
            let (alias, servers) = self.alias(resolver, &name).await?;
            let Some(target) = alias else { return Ok(name) };
            passed.push(name.clone());
            if passed.contains(&target) {
                return Err(DelegationError::Loop(target));
            }
            if passed.len() > MAX_HOPS {
                return Err(DelegationError::TooLong { start: start.clone(), last: target });
            }
            match wildcard(resolver, &servers, &name, &target).await {
                Ok(None) => name = target,
                Ok(Some(wildcard)) => {
                    return Err(DelegationError::Wildcard { name, target, wildcard });
                }
                Err(why) => return Err(DelegationError::Unknown { name, why }),
            }
        }
    }

    /// The CNAME of `name`, and the servers that returned it.
    async fn alias(
        &self,
        resolver: &dyn Resolver,
        name: &DnsName,
    ) -> Result<(Option<DnsName>, Vec<Server>), DelegationError> {
        let unknown = |why: String| DelegationError::Unknown { name: name.clone(), why };
        let configured =
            self.servers.configured(resolver).await.map_err(|error| unknown(error.to_string()))?;
        let mut reason = match CnameAnswer::by(resolver, &configured, name).await {
            CnameAnswer::Agreed(alias, servers) => return Ok((alias, servers)),
            CnameAnswer::Contradictory(why) => return Err(unknown(why)),
            CnameAnswer::Nothing { why, .. } => why,
        };
        // As in a check: the servers of the parent answer, or delegate the name to others, and then
        // it exists.
        for start in name.parent().iter().chain([name]) {
            let servers = match self.servers.of_zone(resolver, start).await {
                Ok(servers) => servers,
                Err(error) => {
                    reason = reason.or_else(|| Some(error.explain(name)));
                    break;
                }
            };
            match CnameAnswer::by(resolver, &servers, name).await {
                CnameAnswer::Agreed(alias, servers) => return Ok((alias, servers)),
                CnameAnswer::Contradictory(why) => return Err(unknown(why)),
                CnameAnswer::Nothing { why, referred } => {
                    reason = why.or(reason);
                    self.servers.forget(start);
                    if !referred {
                        break;
                    }
                }
            }
        }
        // Behind a firewall only the configured servers may answer. They cache absent names, so
        // they are asked last.
        for server in configured {
            if let Ok(answer) = resolver.ask(&server, name, RecordKind::Txt).await {
                return Ok((answer.alias, vec![server]));
            }
        }
        Err(unknown(reason.unwrap_or_else(|| "there is no name server to ask".to_owned())))
    }
}

/// The answers of several servers about the CNAME of a name.
enum CnameAnswer {
    /// All authoritative servers agree.
    Agreed(Option<DnsName>, Vec<Server>),
    Contradictory(String),
    /// None is authoritative, but one may have `referred` to others.
    Nothing {
        why: Option<String>,
        referred: bool,
    },
}

impl CnameAnswer {
    async fn by(resolver: &dyn Resolver, servers: &[Server], name: &DnsName) -> Self {
        let answers = join_all(
            servers
                .iter()
                .map(async |server| (server, resolver.ask(server, name, RecordKind::Cname).await)),
        )
        .await;
        let (mut why, mut referred) = (None, false);
        let mut clear: Option<(Option<DnsName>, Vec<Server>)> = None;
        for (server, answer) in answers {
            let alias = match answer {
                Ok(Answer { authoritative: true, alias, .. }) => alias,
                Ok(_) => {
                    referred = true;
                    let unsure = format!("name server {server} is not authoritative");
                    why = why.or(Some(unsure));
                    continue;
                }
                Err(error) => {
                    why = why.or(Some(error.to_string()));
                    continue;
                }
            };
            match &mut clear {
                None => clear = Some((alias, vec![server.clone()])),
                Some((before, servers)) if *before == alias => servers.push(server.clone()),
                // The zone is being transferred; the next attempt may succeed.
                Some((_, servers)) => {
                    let other = servers.first().unwrap_or(server);
                    return Self::Contradictory(format!(
                        "name servers {other} and {server} return different answers"
                    ));
                }
            }
        }
        match clear {
            Some((alias, servers)) => Self::Agreed(alias, servers),
            None => Self::Nothing { why, referred },
        }
    }
}

/// The wildcard that synthesizes the CNAME from `name` to `target`: it returns the same for a
/// random sibling, which does not exist.
///
/// # Errors
/// When no server answers for the sibling, so that there may be a wildcard.
async fn wildcard(
    resolver: &dyn Resolver,
    servers: &[Server],
    name: &DnsName,
    target: &DnsName,
) -> Result<Option<DnsName>, String> {
    let has_target = async |name: &DnsName| {
        let answers = servers.iter().map(|server| resolver.ask(server, name, RecordKind::Cname));
        let mut found = Err("there is no name server to ask".to_owned());
        for answer in join_all(answers).await {
            match answer {
                Ok(answer) if answer.alias.as_ref() == Some(target) => return Ok(true),
                Ok(_) => found = Ok(false),
                Err(error) => {
                    found = found.map_err(|_| {
                        format!("cannot find out whether the CNAME comes from a wildcard: {error}")
                    });
                }
            }
        }
        found
    };
    let Some(parent) = name.parent() else { return Ok(None) };
    let Some(sibling) = sibling(&parent) else { return Ok(None) };
    if !has_target(&sibling).await? {
        return Ok(None);
    }
    // A wildcard matches wildcards below it, too: the highest one that answers exists.
    let Some(mut highest) = below(&parent) else { return Ok(None) };
    let mut parent = parent.parent();
    for _ in 0..MAX_LEVELS {
        let Some(higher) = parent.as_ref().and_then(below) else { break };
        if !has_target(&higher).await.unwrap_or(false) {
            break;
        }
        highest = higher;
        parent = parent.as_ref().and_then(DnsName::parent);
    }
    Ok(Some(highest))
}

fn below(parent: &DnsName) -> Option<DnsName> {
    format!("*.{parent}").parse().ok()
}

/// A deterministic name below `parent`, so that repeated queries are the same, and not longer than
/// the challenge name beside it.
fn sibling(parent: &DnsName) -> Option<DnsName> {
    const LENGTH: usize = "_acme-challenge".len();
    let room = LENGTH.min(MAX_NAME.saturating_sub(parent.as_str().len() + 1));
    let mut label = format!("_{}", digest(parent.as_str().as_bytes()));
    label.truncate(room);
    format!("{label}.{parent}").parse().ok()
}

/// A delegation takes one, and a CDN with several names two or three.
const MAX_HOPS: usize = 10;
/// How many levels up the wildcard is searched.
const MAX_LEVELS: usize = 8;
/// RFC 1035 section 3.1, without the trailing dot.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests;
