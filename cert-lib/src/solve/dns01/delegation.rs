//! Where a challenge name leads: the end of its chain of CNAMEs (RFC 8555 section 8.4 lets the CA
//! follow them), so that the proof can be published in a zone that is made for it.
//!
//! Only a CNAME that somebody wrote at the name itself is followed. One that a wildcard makes up
//! (RFC 4592) was mostly written for web servers, and its end belongs to somebody else.

use std::net::SocketAddr;

use futures::future::join_all;
use tokio::time::timeout;

use super::{
    DEADLINE, Propagation,
    authority::{AuthorityError, authoritative_servers},
};
use crate::{
    model::{name::DnsName, request::digest},
    net::{Answer, RecordKind, Resolver},
};

/// Why the end of a chain of CNAMEs is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DelegationError {
    /// The chain comes back to itself. Upstream's words.
    #[error("found recursive CNAME record to {0}")]
    Loop(DnsName),
    /// Nobody delegates through so many names, and each costs questions.
    #[error("{start}: more than {MAX_HOPS} CNAMEs follow each other, the last one leads to {last}")]
    TooLong {
        /// Where the chain begins.
        start: DnsName,
        /// How far it was followed.
        last: DnsName,
    },
    /// Nobody wrote this CNAME.
    #[error(
        "the CNAME at {name} to {target} comes from the wildcard {wildcard}: create a CNAME for \
         {name} itself, which must not lead there, too, or set followCNAME to false"
    )]
    Wildcard {
        /// Where it was found.
        name: DnsName,
        /// Where it leads.
        target: DnsName,
        /// The wildcard that makes it up.
        wildcard: DnsName,
    },
    /// Nobody with authority answered, or they contradict each other: it may be known later.
    #[error("cannot find out whether {name} is a CNAME: {why}")]
    Unknown {
        /// The name in question.
        name: DnsName,
        /// In words for a person.
        why: String,
    },
}

impl Propagation {
    /// Where `start` leads: its own name, where it is no CNAME.
    ///
    /// # Errors
    /// See [`Unfollowed`].
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

    /// What `name` is an alias of, and who said so.
    async fn alias(
        &self,
        resolver: &dyn Resolver,
        name: &DnsName,
    ) -> Result<(Option<DnsName>, Vec<SocketAddr>), DelegationError> {
        let unknown = |why: String| DelegationError::Unknown { name: name.clone(), why };
        let configured =
            self.configured(resolver).await.map_err(|error| unknown(error.to_string()))?;
        let mut doubt = match Answered::by(resolver, &configured, name).await {
            Answered::Clearly(alias, servers) => return Ok((alias, servers)),
            Answered::Contradictory(why) => return Err(unknown(why)),
            Answered::Nothing { why, .. } => why,
        };
        // As in a look: the servers of the parent know, or delegate the name to others, and then it
        // exists.
        for start in name.parent().iter().chain([name]) {
            let servers = match self.servers_of(resolver, start).await {
                Ok(servers) => servers,
                Err(astray) => {
                    doubt = doubt.or_else(|| Some(astray.explain(name)));
                    break;
                }
            };
            match Answered::by(resolver, &servers, name).await {
                Answered::Clearly(alias, servers) => return Ok((alias, servers)),
                Answered::Contradictory(why) => return Err(unknown(why)),
                Answered::Nothing { why, referred } => {
                    doubt = why.or(doubt);
                    self.known().remove(start);
                    if !referred {
                        break;
                    }
                }
            }
        }
        // Behind a firewall the configured ones may be the only ones that answer. They remember what
        // is not there, and so they are asked last.
        for server in configured {
            if let Ok(answer) = resolver.query(server, name, RecordKind::Txt).await {
                return Ok((answer.alias, vec![server]));
            }
        }
        Err(unknown(doubt.unwrap_or_else(|| "there is no name server to ask".to_owned())))
    }

    async fn servers_of(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
    ) -> Result<Vec<SocketAddr>, AuthorityError> {
        match self.recall(start) {
            Some(servers) => Ok(servers),
            None => {
                let servers = authoritative_servers(resolver, &self.policy, start).await?;
                Ok(self.remember(start, servers))
            }
        }
    }
}

/// What servers say about the CNAME of a name.
enum Answered {
    /// All with authority say the same.
    Clearly(Option<DnsName>, Vec<SocketAddr>),
    Contradictory(String),
    /// None has authority, but one may have `referred` to others.
    Nothing {
        why: Option<String>,
        referred: bool,
    },
}

impl Answered {
    async fn by(resolver: &dyn Resolver, servers: &[SocketAddr], name: &DnsName) -> Self {
        let answers =
            join_all(servers.iter().map(async |server| {
                (*server, resolver.query(*server, name, RecordKind::Cname).await)
            }))
            .await;
        let (mut why, mut referred) = (None, false);
        let mut clear: Option<(Option<DnsName>, Vec<SocketAddr>)> = None;
        for (server, answer) in answers {
            let alias = match answer {
                Ok(Answer { authoritative: true, alias, .. }) => alias,
                Ok(_) => {
                    referred = true;
                    let unsure = format!("name server {server} has no authority");
                    why = why.or(Some(unsure));
                    continue;
                }
                Err(error) => {
                    why = why.or(Some(error.to_string()));
                    continue;
                }
            };
            match &mut clear {
                None => clear = Some((alias, vec![server])),
                Some((before, servers)) if *before == alias => servers.push(server),
                // Between two states of the zone: wrong ones end with the next transfer.
                Some((_, servers)) => {
                    let other = servers.first().copied().unwrap_or(server);
                    return Self::Contradictory(format!(
                        "name servers {other} and {server} do not say the same"
                    ));
                }
            }
        }
        match clear {
            Some((alias, servers)) => Self::Clearly(alias, servers),
            None => Self::Nothing { why, referred },
        }
    }
}

/// The wildcard that makes up the CNAME from `name` to `target`: the one that gives it to a sibling
/// which nobody can have written.
///
/// # Errors
/// Nobody answers the question for the sibling, so that there may be one.
async fn wildcard(
    resolver: &dyn Resolver,
    servers: &[SocketAddr],
    name: &DnsName,
    target: &DnsName,
) -> Result<Option<DnsName>, String> {
    let leads_there = async |name: &DnsName| {
        let answers = servers.iter().map(|server| resolver.query(*server, name, RecordKind::Cname));
        let mut said = Err("there is no name server to ask".to_owned());
        for answer in join_all(answers).await {
            match answer {
                Ok(answer) if answer.alias.as_ref() == Some(target) => return Ok(true),
                Ok(_) => said = Ok(false),
                Err(error) => {
                    said = said.map_err(|_| {
                        format!("whether a wildcard makes up the CNAME is unknown: {error}")
                    });
                }
            }
        }
        said
    };
    let Some(parent) = name.parent() else { return Ok(None) };
    let Some(sibling) = sibling(&parent) else { return Ok(None) };
    if !leads_there(&sibling).await? {
        return Ok(None);
    }
    // A wildcard makes up the wildcards below it, too: the highest one that answers is real.
    let Some(mut real) = below(&parent) else { return Ok(None) };
    let mut parent = parent.parent();
    for _ in 0..MAX_LEVELS {
        let Some(higher) = parent.as_ref().and_then(below) else { break };
        if !leads_there(&higher).await.unwrap_or(false) {
            break;
        }
        real = higher;
        parent = parent.as_ref().and_then(DnsName::parent);
    }
    Ok(Some(real))
}

fn below(parent: &DnsName) -> Option<DnsName> {
    format!("*.{parent}").parse().ok()
}

/// A name below `parent` that is always the same one, so that questions can be told from each other,
/// and not longer than the challenge name beside it.
fn sibling(parent: &DnsName) -> Option<DnsName> {
    const LENGTH: usize = "_acme-challenge".len();
    let room = LENGTH.min(MAX_NAME.saturating_sub(parent.as_str().len() + 1));
    let mut label = format!("_{}", digest(parent.as_str().as_bytes()));
    label.truncate(room);
    format!("{label}.{parent}").parse().ok()
}

/// Delegation takes one, and through a service that renames customers two or three.
const MAX_HOPS: usize = 10;
/// How far up the wildcard is looked for that is to be named.
const MAX_LEVELS: usize = 8;
/// RFC 1035 section 3.1, without the trailing dot.
const MAX_NAME: usize = 253;

#[cfg(test)]
mod tests;
