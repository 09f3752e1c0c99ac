//! The client of one API server, which may serve several roles.

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
    bucket::Bucket,
    connection::Connection,
    credentials::{Credentials, NoCredentials},
    health::{Health, ServerResponse},
    kubeconfig::{Digest, Kubeconfig, Loaded},
    settings::ClusterOptions,
    stack::{Purpose, Stack, build},
};
use crate::runtime::{
    fence::{Fence, NotLeading},
    metrics::{Metrics, Verb},
    role::{Reachability, Role},
};

/// Deadline for the head of a response. Watches respond at once, too.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often kubeconfigs are read. Mounted Secrets change within a minute or two.
const KUBECONFIG_INTERVAL: Duration = Duration::from_secs(10);
/// Path to probe a server that is not reachable. It needs no rights.
const PROBE: &str = "/version";
/// Interval of these probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// See the [module](self).
pub(super) struct Member {
    transport: Arc<SharedTransport>,
    client: Client,
    server: String,
    fence: Fence,
    /// Several if roles have equal kubeconfigs. Each of them may change.
    sources: Mutex<Vec<Source>>,
}

/// State that the clients of a member share, and that survives changes of the kubeconfig.
struct SharedTransport {
    stacks: RwLock<Stacks>,
    bucket: Bucket,
    health: Health,
    roles: Mutex<Vec<Role>>,
    metrics: OnceLock<Metrics>,
}

/// The HTTP stacks of one kubeconfig, which share its credentials.
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
    /// The last error, so that it is logged once.
    error: Option<String>,
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
        let transport = Arc::new(SharedTransport {
            stacks: RwLock::new(Stacks::build(&loaded.connection, fence).with_context(what)?),
            bucket: Bucket::new(options.qps, options.burst),
            health: Health::new(),
            roles: Mutex::new(vec![role]),
            metrics: OnceLock::new(),
        });
        Ok(Arc::new(Self {
            client: client(&transport, Purpose::Calls, &loaded.connection.namespace),
            transport: transport.clone(),
            server: server(&loaded),
            fence: fence.clone(),
            sources: Mutex::new(vec![Source { kubeconfig, digest: loaded.digest, error: None }]),
        }))
    }

    /// Whether this member serves a kubeconfig: the location or the content is the same.
    pub(super) fn has(&self, kubeconfig: &Kubeconfig, loaded: &Loaded) -> bool {
        let same =
            |known: &Source| known.kubeconfig == *kubeconfig || (known.digest == loaded.digest);
        lock(&self.sources).iter().any(same)
    }

    /// Adds a role.
    pub(super) fn join(&self, role: Role, kubeconfig: Kubeconfig, digest: Digest) {
        lock(&self.transport.roles).push(role);
        let mut sources = lock(&self.sources);
        if !sources.iter().any(|known| known.kubeconfig == kubeconfig) {
            sources.push(Source { kubeconfig, digest, error: None });
        }
    }

    /// Starts to count calls, for the first role.
    pub(super) fn count(&self, metrics: &Metrics) {
        let _ = self.transport.metrics.set(metrics.clone());
    }

    pub(super) fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client for the Lease. Its tasks run on the current Tokio runtime.
    pub(super) fn lease_client(&self) -> Client {
        client(&self.transport, Purpose::Lease, self.client.default_namespace())
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn reachability(&self) -> watch::Receiver<Reachability> {
        self.transport.health.subscribe()
    }

    /// Probes the server while it is not reachable, so that its return is noticed without other calls.
    pub(super) async fn probe_while_unreachable(&self) -> anyhow::Result<()> {
        let mut known = self.reachability();
        loop {
            known.wait_for(|known| *known != Reachability::Reachable).await?;
            let request = Request::get(PROBE).body(Vec::new())?;
            // `send` records the result.
            let _ = self.client.request_text(request).await;
            if *known.borrow() != Reachability::Reachable {
                sleep(PROBE_INTERVAL).await;
            }
        }
    }

    /// Reloads the kubeconfigs periodically.
    ///
    /// # Errors
    /// See [`Self::check_kubeconfigs`].
    pub(super) async fn reload_kubeconfigs(&self) -> anyhow::Result<()> {
        loop {
            sleep(KUBECONFIG_INTERVAL).await;
            self.check_kubeconfigs().await?;
        }
    }

    /// Reloads changed kubeconfigs. Errors are logged, and the previous kubeconfig stays in use.
    ///
    /// # Errors
    /// When a kubeconfig names another server.
    pub(super) async fn check_kubeconfigs(&self) -> anyhow::Result<()> {
        let sources = lock(&self.sources).clone();
        for (at, mut source) in sources.into_iter().enumerate() {
            match self.reload(&source).await {
                Ok(None) => source.error = None,
                Ok(Some(loaded)) => {
                    if server(&loaded) != self.server {
                        bail!(
                            "{} changed the server from {} to {}: restart, because all caches belong to \
                             the old server",
                            source.kubeconfig,
                            self.server,
                            server(&loaded)
                        );
                    }
                    info!("{} has changed and is in use now", source.kubeconfig);
                    (source.digest, source.error) = (loaded.digest, None);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if source.error.as_ref() != Some(&error) {
                        warn!("{error}; the previous kubeconfig stays in use");
                    }
                    source.error = Some(error);
                }
            }
            if let Some(known) = lock(&self.sources).get_mut(at) {
                *known = source;
            }
        }
        Ok(())
    }

    /// Loads a changed kubeconfig, and uses it if it names the same server.
    async fn reload(&self, source: &Source) -> anyhow::Result<Option<Loaded>> {
        let kubeconfig = &source.kubeconfig;
        let loaded = kubeconfig.load().await?;
        if loaded.digest == source.digest {
            return Ok(None);
        }
        if server(&loaded) == self.server {
            let stacks = Stacks::build(&loaded.connection, &self.fence)
                .with_context(|| kubeconfig.to_string())?;
            *self.transport.stacks.write().unwrap_or_else(PoisonError::into_inner) = stacks;
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
        let request_line = format!("{} {}", request.method(), request.uri().path());
        let stack = {
            let stacks = self.stacks.read().unwrap_or_else(PoisonError::into_inner);
            match purpose {
                Purpose::Calls => stacks.calls.clone(),
                Purpose::Lease => stacks.lease.clone(),
            }
        };
        let answer = match timeout(RESPONSE_TIMEOUT, stack.oneshot(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {RESPONSE_TIMEOUT:?}").into()),
        };
        self.count(verb, &answer);
        if let Some(response) = classify(&request_line, &answer) {
            self.health.note(|| self.name(), response);
        }
        answer
    }

    /// Counts a call, unless the fence prevented it.
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

fn client(transport: &Arc<SharedTransport>, purpose: Purpose, namespace: &str) -> Client {
    let transport = transport.clone();
    let send = service_fn(move |request| transport.clone().send(purpose, request));
    Client::new(send, namespace)
}

/// Classifies the result of a call; `None` if the fence prevented it.
fn classify(
    request_line: &str,
    answer: &Result<Response<Incoming>, BoxError>,
) -> Option<ServerResponse> {
    match answer {
        Err(error) if error.is::<NotLeading>() => None,
        Err(error) if error.is::<NoCredentials>() => {
            Some(ServerResponse::Unauthorized(error.to_string()))
        }
        Err(error) => Some(ServerResponse::Nothing(chain(error.as_ref()))),
        Ok(answer) => Some(match answer.status() {
            StatusCode::UNAUTHORIZED => ServerResponse::Unauthorized(format!(
                "{request_line} is answered with 401: the credentials are not valid"
            )),
            StatusCode::FORBIDDEN => ServerResponse::Forbidden(format!(
                "{request_line} is answered with 403, like all calls before"
            )),
            _ if request_line.ends_with(PROBE) => ServerResponse::Answered,
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
