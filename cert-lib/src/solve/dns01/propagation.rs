//! The check itself: [`Propagation`].

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use tokio::time::timeout;

use super::{
    authority::AuthorityError,
    nameserver::Nameserver,
    options::{Check, PropagationOptions, additional_wait},
    servers::{Role, Servers},
    view::{ServerView, Unusable, Visibility, ask_all, evaluate, not_seen},
};
use crate::{
    clock::Clock,
    model::name::DnsName,
    net::{Resolver, Server, reach::AddressPolicy},
};

/// Checks whether TXT values have reached the servers that the CA asks.
pub struct Propagation {
    options: PropagationOptions,
    pub(super) servers: Servers,
}

/// A challenge name and its values.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    fqdn: &'a DnsName,
    values: &'a [String],
}

impl Propagation {
    /// Checks `nameservers`, all of which must have the values; without any, the authoritative
    /// servers of the zone: [`Check::Nameservers`].
    #[must_use]
    pub fn new(nameservers: Vec<Nameserver>, clock: Arc<dyn Clock>) -> Self {
        let check = Check::Nameservers;
        let options = PropagationOptions { check, nameservers, ..PropagationOptions::default() };
        Self::with_options(options, clock)
    }

    /// Checks as `options` say.
    #[must_use]
    pub fn with_options(options: PropagationOptions, clock: Arc<dyn Clock>) -> Self {
        let role = match options.check {
            Check::Nameservers => Role::Any,
            Check::Authoritative | Check::Resolvers | Check::Wait | Check::None => Role::Recursive,
        };
        let servers = Servers::new(options.nameservers.clone(), role, clock);
        Self { options, servers }
    }

    /// Restricts the servers that a zone names to addresses that `policy` permits; the default is
    /// public addresses. The configured name servers are the operator's and are not restricted.
    #[must_use]
    pub fn within(self, policy: Arc<AddressPolicy>) -> Self {
        Self { servers: self.servers.within(policy), ..self }
    }

    /// How long values may stay invisible before an order fails; `default` is that of the issuer.
    /// Without a timeout of its own, the check adds its delay, so that an order can succeed.
    #[must_use]
    pub fn timeout(&self, default: SignedDuration) -> SignedDuration {
        let delay = || self.options.delay().unwrap_or_default();
        self.options.timeout.unwrap_or_else(|| default.saturating_add(delay()))
    }

    /// How long to wait after the values are visible; `default` is the setting of the manager.
    #[must_use]
    pub fn additional_wait(
        &self,
        default: Option<SignedDuration>,
        authoritative: bool,
    ) -> SignedDuration {
        match self.options.check {
            Check::Wait | Check::None => SignedDuration::ZERO,
            Check::Authoritative | Check::Resolvers | Check::Nameservers => {
                additional_wait(self.options.wait.or(default), authoritative)
            }
        }
    }

    /// Checks once whether all `values`, which are published now, are records of `fqdn`. Other
    /// records are allowed: another client may prove the same name.
    pub async fn check(
        &self,
        resolver: &dyn Resolver,
        fqdn: &DnsName,
        values: &[String],
    ) -> Visibility {
        self.check_after(resolver, fqdn, values, SignedDuration::ZERO).await
    }

    /// The same for values that were published `age` ago.
    pub async fn check_after(
        &self,
        resolver: &dyn Resolver,
        fqdn: &DnsName,
        values: &[String],
        age: SignedDuration,
    ) -> Visibility {
        let wanted = Wanted { fqdn, values };
        let look = async {
            match self.options.check {
                Check::None => Visibility::Seen { authoritative: true },
                Check::Wait => self.check_age(age),
                Check::Resolvers => self.check_resolvers(resolver, wanted, age).await,
                Check::Nameservers if self.servers.are_configured() => {
                    self.check_nameservers(resolver, wanted).await
                }
                Check::Nameservers | Check::Authoritative => {
                    let checked = self.check_authoritative(resolver, wanted).await;
                    checked.unwrap_or_else(|error| not_seen(error.explain(fqdn)))
                }
            }
        };
        timeout(DEADLINE, look).await.unwrap_or_else(|_| not_seen(took_long(fqdn, DEADLINE)))
    }

    fn check_age(&self, age: SignedDuration) -> Visibility {
        match self.left(age) {
            None => Visibility::Seen { authoritative: true },
            Some(left) => {
                let seconds = left.as_secs().max(1);
                let why = format!("waiting {seconds} s more; this solver checks no name server");
                Visibility::Waiting { why, left }
            }
        }
    }

    async fn check_nameservers(&self, resolver: &dyn Resolver, wanted: Wanted<'_>) -> Visibility {
        let fqdn = wanted.fqdn;
        let nameservers = match self.servers.configured(resolver).await {
            Ok(nameservers) => nameservers,
            Err(error) => return not_seen(format!("{fqdn}: {error}")),
        };
        let views = ask_all(resolver, &nameservers, fqdn, wanted.values).await;
        evaluate(fqdn, &views, Unusable::Counts)
    }

    /// First the authoritative servers, because resolvers cache the absence of a name. Where none
    /// can be reached, a delay makes it likely that the name exists when the resolvers are asked.
    async fn check_resolvers(
        &self,
        resolver: &dyn Resolver,
        wanted: Wanted<'_>,
        age: SignedDuration,
    ) -> Visibility {
        let fqdn = wanted.fqdn;
        let look = timeout(AUTHORITATIVE_DEADLINE, self.check_authoritative(resolver, wanted));
        let unreachable = match look.await {
            Ok(Ok(Visibility::Seen { .. })) => None,
            Ok(Ok(other)) => return other,
            Ok(Err(error)) if error.is_unreachable() => Some(error.explain(fqdn)),
            Ok(Err(error)) => return not_seen(error.explain(fqdn)),
            Err(_) => Some(took_long(fqdn, AUTHORITATIVE_DEADLINE)),
        };
        if let (Some(why), Some(left)) = (&unreachable, self.left(age)) {
            let seconds = left.as_secs().max(1);
            let why = format!("{why}; the resolvers are asked in {seconds} s");
            return Visibility::Waiting { why, left };
        }
        let resolvers = match self.servers.resolvers(resolver).await {
            Ok(resolvers) => resolvers,
            Err(error) => return not_seen(format!("{fqdn}: {error}")),
        };
        let views = ask_all(resolver, &resolvers, fqdn, wanted.values).await;
        match evaluate(fqdn, &views, Unusable::Counts) {
            Visibility::Seen { .. } => Visibility::Seen { authoritative: unreachable.is_none() },
            other => other,
        }
    }

    async fn check_authoritative(
        &self,
        resolver: &dyn Resolver,
        wanted: Wanted<'_>,
    ) -> Result<Visibility, AuthorityError> {
        // Starts at the parent: a question for the challenge name itself would put its absence into
        // the cache of a resolver, which the CA may use.
        let parent = wanted.fqdn.parent().unwrap_or_else(|| wanted.fqdn.clone());
        match self.check_from(resolver, &parent, wanted).await {
            // The challenge name is a zone of its own, so it exists.
            Err(AuthorityError::Referred) => self.check_from(resolver, wanted.fqdn, wanted).await,
            other => other,
        }
    }

    async fn check_from(
        &self,
        resolver: &dyn Resolver,
        start: &DnsName,
        wanted: Wanted<'_>,
    ) -> Result<Visibility, AuthorityError> {
        let servers = self.servers.of_zone(resolver, start).await?;
        let views = self.ask_zone(resolver, &servers, wanted).await;
        if views.iter().any(ServerView::is_useful) {
            return Ok(evaluate(wanted.fqdn, &views, Unusable::IsSkipped));
        }
        // The cached servers may be outdated.
        self.servers.forget(start);
        let referred = views.iter().any(|view| matches!(view, ServerView::Referred(_)));
        if referred && start != wanted.fqdn {
            return Err(AuthorityError::Referred);
        }
        let why = views.iter().find_map(ServerView::reason).unwrap_or_default();
        Err(AuthorityError::NoAnswer(why.to_owned()))
    }

    /// Asks the servers of a zone, except those that were silent a short time ago.
    async fn ask_zone(
        &self,
        resolver: &dyn Resolver,
        servers: &[Server],
        wanted: Wanted<'_>,
    ) -> Vec<ServerView> {
        let (mut views, mut open) = (Vec::new(), Vec::new());
        for server in servers {
            match self.servers.silence(server) {
                Some(why) => views.push(ServerView::Silent(why)),
                None => open.push(server.clone()),
            }
        }
        let answers = ask_all(resolver, &open, wanted.fqdn, wanted.values).await;
        for (server, view) in open.iter().zip(answers) {
            if let ServerView::Silent(why) = &view {
                self.servers.remember_silence(server, why);
            }
            views.push(view);
        }
        views
    }

    /// The rest of the delay since the publication, if any.
    fn left(&self, age: SignedDuration) -> Option<SignedDuration> {
        let left = self.options.wait_from_publication().saturating_sub(age);
        (left > SignedDuration::ZERO).then_some(left)
    }
}

fn took_long(fqdn: &DnsName, deadline: Duration) -> String {
    format!("looking for {fqdn} took longer than {} s", deadline.as_secs())
}

/// For a whole check: a dead server costs two exchanges, and the others are asked in parallel.
pub(super) const DEADLINE: Duration = Duration::from_secs(25);
/// For the authoritative servers, if resolvers are asked afterwards.
const AUTHORITATIVE_DEADLINE: Duration = Duration::from_secs(14);

#[cfg(test)]
mod tests;
