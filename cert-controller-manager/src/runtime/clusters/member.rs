//! One API server, with the roles that it has.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use anyhow::{Context, bail};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use kube::{Client, client::Body};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tower::{BoxError, ServiceExt, service_fn};
use tracing::{info, warn};

use super::{
    ClusterOptions, Reachability, Role,
    bucket::Bucket,
    connection::Connection,
    credentials::{Credentials, NoCredentials},
    health::{Health, ServerResponse},
    kubeconfig::{Digest, Kubeconfig, Loaded},
    stack::{Purpose, Stack, build},
};
use crate::runtime::{
    fence::{Fence, NotLeading},
    metrics::{Metrics, Verb},
};

/// How long a server may take until it begins to answer. Watches begin at once, too.
const ANSWER: Duration = Duration::from_secs(20);
/// How often kubeconfigs are looked at: mounted Secrets change within a minute or two.
const KUBECONFIGS: Duration = Duration::from_secs(10);
/// What a server that is away, or refuses us, is asked: everybody may ask it.
const PROBE: &str = "/version";
/// How often a server that is away is asked.
const AWAY: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(super) struct Member {
    line: Arc<SharedTransport>,
    client: Client,
    server: String,
    fence: Fence,
    /// Several where files are equal; any of them may change.
    sources: Mutex<Vec<Source>>,
}

/// What all clients of a member share, and what goes on when its kubeconfig changes.
struct SharedTransport {
    stacks: RwLock<Stacks>,
    bucket: Bucket,
    health: Health,
    roles: Mutex<Vec<Role>>,
    metrics: OnceLock<Metrics>,
}

/// The ways to a server with one kubeconfig; they share its credentials.
struct Stacks {
    calls: Stack,
    lease: Stack,
}

impl Stacks {
    fn build(connection: &Connection, fence: &Fence) -> anyhow::Result<Self> {
        let credentials = Credentials::new(connection.identity.clone());
        let stack = |purpose| build(connection, &credentials, purpose, fence);
        Ok(Self { calls: stack(Purpose::Calls)?, lease: stack(Purpose::Lease)? })
    }
}

#[derive(Clone)]
struct Source {
    kubeconfig: Kubeconfig,
    digest: Digest,
    /// What was wrong with it at the last look, so that it is logged once.
    trouble: Option<String>,
}

impl Member {
    /// # Errors
    /// When the credentials cannot be used.
    pub(super) fn new(
        role: Role,
        kubeconfig: Kubeconfig,
        loaded: Loaded,
        options: &ClusterOptions,
        fence: &Fence,
    ) -> anyhow::Result<Arc<Self>> {
        let what = || kubeconfig.to_string();
        let line = Arc::new(SharedTransport {
            stacks: RwLock::new(Stacks::build(&loaded.connection, fence).with_context(what)?),
            bucket: Bucket::new(options.qps, options.burst),
            health: Health::new(),
            roles: Mutex::new(vec![role]),
            metrics: OnceLock::new(),
        });
        Ok(Arc::new(Self {
            client: client(&line, Purpose::Calls, &loaded.connection.namespace),
            line: line.clone(),
            server: server(&loaded),
            fence: fence.clone(),
            sources: Mutex::new(vec![Source { kubeconfig, digest: loaded.digest, trouble: None }]),
        }))
    }

    /// Whether this is the client for such a kubeconfig: of the same place, or with the same content.
    pub(super) fn has(&self, kubeconfig: &Kubeconfig, loaded: &Loaded) -> bool {
        let same =
            |known: &Source| known.kubeconfig == *kubeconfig || (known.digest == loaded.digest);
        lock(&self.sources).iter().any(same)
    }

    /// Gives it another role.
    pub(super) fn join(&self, role: Role, kubeconfig: Kubeconfig, digest: Digest) {
        lock(&self.line.roles).push(role);
        let mut sources = lock(&self.sources);
        if !sources.iter().any(|known| known.kubeconfig == kubeconfig) {
            sources.push(Source { kubeconfig, digest, trouble: None });
        }
    }

    /// From now on calls are counted, under the first role.
    pub(super) fn count(&self, metrics: &Metrics) {
        let _ = self.line.metrics.set(metrics.clone());
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client for the Lease, whose tasks run where this is called.
    pub(super) fn lease_client(&self) -> Client {
        client(&self.line, Purpose::Lease, self.client.default_namespace())
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn reachability(&self) -> watch::Receiver<Reachability> {
        self.line.health.subscribe()
    }

    /// Asks the server while it is not known to answer, so that its return is noticed also when
    /// nobody needs it.
    pub(super) async fn keep_looking(&self) -> anyhow::Result<()> {
        let mut known = self.reachability();
        loop {
            known.wait_for(|known| *known != Reachability::Reachable).await?;
            let request = Request::get(PROBE).body(Vec::new())?;
            // The call itself is noted, whatever it says.
            let _ = self.client.request_text(request).await;
            if *known.borrow() != Reachability::Reachable {
                sleep(AWAY).await;
            }
        }
    }

    /// Looks at the kubeconfigs for ever.
    ///
    /// # Errors
    /// See [`Self::check_kubeconfigs`].
    pub(super) async fn keep_kubeconfig(&self) -> anyhow::Result<()> {
        loop {
            sleep(KUBECONFIGS).await;
            self.check_kubeconfigs().await?;
        }
    }

    /// Reads what changed and goes on with it. What is wrong is logged, and the old one is kept.
    ///
    /// # Errors
    /// When another server is named.
    pub(super) async fn check_kubeconfigs(&self) -> anyhow::Result<()> {
        let sources = lock(&self.sources).clone();
        for (at, mut source) in sources.into_iter().enumerate() {
            match self.reload(&source).await {
                Ok(None) => source.trouble = None,
                Ok(Some(loaded)) => {
                    if server(&loaded) != self.server {
                        bail!(
                            "{} names the server {} now and named {} before; what is known is of the \
                             old one, so start again",
                            source.kubeconfig,
                            server(&loaded),
                            self.server
                        );
                    }
                    info!("{} has changed and is used from now on", source.kubeconfig);
                    (source.digest, source.trouble) = (loaded.digest, None);
                }
                Err(error) => {
                    let trouble = format!("{error:#}");
                    if source.trouble.as_ref() != Some(&trouble) {
                        warn!("{trouble}; going on with what it was before");
                    }
                    source.trouble = Some(trouble);
                }
            }
            if let Some(known) = lock(&self.sources).get_mut(at) {
                *known = source;
            }
        }
        Ok(())
    }

    /// Reads a kubeconfig again if it has changed; uses it if it names the same server.
    async fn reload(&self, source: &Source) -> anyhow::Result<Option<Loaded>> {
        let kubeconfig = &source.kubeconfig;
        let loaded = kubeconfig.load().await?;
        if loaded.digest == source.digest {
            return Ok(None);
        }
        if server(&loaded) == self.server {
            let stacks = Stacks::build(&loaded.connection, &self.fence)
                .with_context(|| kubeconfig.to_string())?;
            *self.line.stacks.write().unwrap_or_else(PoisonError::into_inner) = stacks;
        }
        Ok(Some(loaded))
    }
}

impl SharedTransport {
    async fn send(
        self: Arc<Self>,
        purpose: Purpose,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, BoxError> {
        let verb = Verb::of(request.method(), request.uri().path(), request.uri().query());
        if purpose == Purpose::Calls {
            self.bucket.acquire().await;
        }
        let asked = format!("{} {}", request.method(), request.uri().path());
        let stack = {
            let stacks = self.stacks.read().unwrap_or_else(PoisonError::into_inner);
            match purpose {
                Purpose::Calls => stacks.calls.clone(),
                Purpose::Lease => stacks.lease.clone(),
            }
        };
        let answer = match timeout(ANSWER, stack.oneshot(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {ANSWER:?}").into()),
        };
        self.count(verb, &answer);
        if let Some(met) = met(&asked, &answer) {
            self.health.note(|| self.name(), met);
        }
        answer
    }

    /// What was not sent at all is not counted.
    fn count(&self, verb: Verb, answer: &Result<Response<Incoming>, BoxError>) {
        let Some(metrics) = self.metrics.get() else { return };
        let unsent = answer.as_ref().is_err_and(|error| error.is::<NotLeading>());
        let role = lock(&self.roles).first().copied();
        if let Some(role) = role.filter(|_| !unsent) {
            metrics.kube_call(role, verb, answer.as_ref().ok().map(Response::status));
        }
    }

    fn name(&self) -> String {
        let roles: Vec<_> = lock(&self.roles).iter().map(|role| role.name()).collect();
        format!("the API server of the cluster {}", roles.join(", "))
    }
}

fn client(line: &Arc<SharedTransport>, purpose: Purpose, namespace: &str) -> Client {
    let line = line.clone();
    let send = service_fn(move |request| line.clone().send(purpose, request));
    Client::new(send, namespace)
}

/// What an answer says of the server; `None` where nothing was sent.
fn met(asked: &str, answer: &Result<Response<Incoming>, BoxError>) -> Option<ServerResponse> {
    match answer {
        Err(error) if error.is::<NotLeading>() => None,
        Err(error) if error.is::<NoCredentials>() => {
            Some(ServerResponse::Unauthorized(error.to_string()))
        }
        Err(error) => Some(ServerResponse::Nothing(chain(error.as_ref()))),
        Ok(answer) => Some(match answer.status() {
            StatusCode::UNAUTHORIZED => ServerResponse::Unauthorized(format!(
                "{asked} is answered with 401, our credentials are not valid"
            )),
            StatusCode::FORBIDDEN => ServerResponse::Forbidden(format!(
                "{asked} is answered with 403, as all calls before"
            )),
            _ if asked.ends_with(PROBE) => ServerResponse::Answered,
            _ => ServerResponse::Accepted,
        }),
    }
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    line
}

fn server(loaded: &Loaded) -> String {
    loaded.connection.server.to_string().trim_end_matches('/').to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
