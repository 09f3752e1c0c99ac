//! The last step of an order: fetching the certificate (RFC 8555 section 7.4.2), checking it, and
//! choosing among its chains.

use std::collections::BTreeSet;

use futures::future;
use jiff::SignedDuration;

use crate::{
    acme::{
        client::{Reply, RequestError},
        order::View,
        problem::ProblemScope,
    },
    issue::{
        IssueError,
        acme::{
            chain::{self, ChainError},
            failure,
            steps::Running,
        },
        verify::verify,
    },
    model::{bundle::Bundle, request::Subject},
    net::HttpError,
};

impl Running<'_> {
    /// Fetches the certificate (section 7.4.2) and checks it.
    pub(super) async fn download(&self, view: &View, url: &str) -> Result<Bundle, IssueError> {
        let fetched = self.issuer.account.fetch(url);
        // A process that only came for the certificate cannot know what was left behind.
        let (outcome, ()) = future::join(fetched, self.cleanup_unless_done(view)).await;
        let reply = match outcome {
            Ok(reply) => reply,
            Err(error @ RequestError::Transport(HttpError::TooLarge { .. })) => {
                return Err(self.unusable(&ChainError::None(error.to_string())));
            }
            // One of the CA's servers may not have it yet.
            Err(RequestError::Problem(problem)) if problem.is_gone() => {
                return Err(self.unusable(&ChainError::None(problem.to_string())));
            }
            Err(error) => {
                let doing = "fetching the certificate";
                return Err(failure::failed(doing, &error, ProblemScope::Order));
            }
        };
        let bundle = self.check(&reply).map_err(|error| self.unusable(&error))?;
        let bundle = self.prefer(bundle, &reply, url).await;
        self.issuer.used_up(&self.request.owner, &self.durable.order).await;
        Ok(bundle)
    }

    /// An answer that is no certificate may be a page of a proxy: it is fetched again for a while.
    fn unusable(&self, error: &ChainError) -> IssueError {
        let message = format!("the CA's certificate cannot be used: {error}");
        let age = self.issuer.clock.now().duration_since(self.durable.started);
        match error {
            ChainError::None(_) if age < PATIENCE => IssueError::transient(message),
            ChainError::None(_)
            | ChainError::TooLong(_)
            | ChainError::Broken
            | ChainError::Mismatch(_) => IssueError::OrderFailed(message),
        }
    }

    /// The preferred chain, if the CA has it: the default one, or else the first of the alternates
    /// (section 7.4.2) that fits. They are fetched one by one, as most need not be. One that cannot
    /// be fetched is skipped: no certificate waits for a chain.
    async fn prefer(&self, bundle: Bundle, reply: &Reply, url: &str) -> Bundle {
        let own = self.request.acme.preferred_chain.as_ref();
        let preferred = own.or(self.issuer.options.preferred_chain.as_ref());
        let Some(preferred) = preferred.filter(|name| !name.is_empty()) else { return bundle };
        if chain::has_issuer(&bundle.chain, preferred) {
            return bundle;
        }
        let mut seen = BTreeSet::from([url]);
        let alternates = reply.links.iter().filter(|(relation, _)| relation == "alternate");
        let alternates = alternates.map(|(_, url)| url.as_str()).filter(|url| seen.insert(url));
        for url in alternates.take(MAX_ALTERNATES).collect::<Vec<_>>() {
            let other = match self.issuer.account.fetch(url).await {
                Ok(reply) => self.check(&reply).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match other {
                Ok(other) if chain::has_issuer(&other.chain, preferred) => return other,
                Ok(_) => {}
                Err(why) => tracing::debug!(url, why, "an alternate chain cannot be used"),
            }
        }
        let remark = format!(
            "no chain of the CA has an issuer with the common name {preferred:?}, so its default chain is used"
        );
        Bundle { remark: Some(remark), ..bundle }
    }

    fn check(&self, reply: &Reply) -> Result<Bundle, ChainError> {
        let missing = |why: &dyn ToString| ChainError::None(why.to_string());
        let public_key = match (&self.request.subject, &self.durable.key) {
            (Subject::Csr(csr), _) => csr.public_key.clone(),
            (Subject::Names { .. }, Some(key)) => key.public_key().to_vec(),
            (Subject::Names { .. }, None) => return Err(missing(&"its private key is missing")),
        };
        let bundle = chain::read(&reply.body, &public_key)?;
        let bundle = Bundle { key: self.durable.key.clone(), ..bundle };
        verify(&bundle, self.request, self.issuer.clock.now())?;
        Ok(bundle)
    }
}

/// How long an answer that is no certificate is taken for a transient error.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// Chains that are fetched besides the default one.
const MAX_ALTERNATES: usize = 10;
