//! The current credentials of one kubeconfig. They are renewed before they expire and after a server
//! refuses them.
//!
//! A plugin runs on its own thread, so that busy workers do not delay a credential for the Lease. The
//! previous credential is used until the new one is available.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use super::{
    connection::{Credential, Identity, Plugin},
    kubeconfig::token_in,
    plugin,
};

/// Maximum age of a token before its file is read again.
const TOKEN_AGE: Duration = Duration::from_secs(10);
/// Minimum interval between two runs of a plugin.
#[derive(Clone, Copy)]
struct RefreshPolicy {
    after_failure: Duration,
    after_success: Duration,
}

const POLICY: RefreshPolicy =
    RefreshPolicy { after_failure: Duration::from_secs(5), after_success: Duration::from_secs(1) };
/// Maximum time before its expiry at which a credential is renewed.
const EARLY: SignedDuration = SignedDuration::from_secs(60);

/// Credentials for one request.
#[derive(Clone)]
pub(super) struct Issued {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) certificate: Option<Arc<CertifiedKey>>,
    /// Serial number. A client certificate belongs to a connection, so a new number may need a new
    /// connection.
    pub(super) number: u64,
    expires: Option<Timestamp>,
    /// When a new credential is requested.
    renew: Option<Timestamp>,
}

/// Credentials are not available.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no credentials: {0}")]
pub(super) struct NoCredentials(String);

/// See the [module](self).
pub(super) struct Credentials {
    identity: Identity,
    policy: RefreshPolicy,
    state: Mutex<State>,
    /// Changes when a plugin run ends.
    ended: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    issued: Option<Issued>,
    /// Whether a server refused `issued`.
    refused: bool,
    running: bool,
    /// When the plugin started, or when the file was read.
    began: Option<Instant>,
    failed: Option<NoCredentials>,
    number: u64,
}

impl Credentials {
    pub(super) fn new(identity: Identity) -> Arc<Self> {
        Self::with_policy(identity, POLICY)
    }

    fn with_policy(identity: Identity, policy: RefreshPolicy) -> Arc<Self> {
        let (state, ended) = (Mutex::default(), watch::Sender::new(0));
        Arc::new(Self { identity, policy, state, ended })
    }

    /// Returns the credentials for a request.
    ///
    /// # Errors
    /// When the file cannot be read, or when the plugin fails.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Issued, NoCredentials> {
        match &self.identity.credential {
            Credential::None => Ok(self.issued(None)),
            Credential::Fixed(header) => Ok(self.issued(Some(header.clone()))),
            Credential::TokenFile { path, fallback } => {
                let mut state = self.lock();
                let old = state.began.is_none_or(|began| began.elapsed() >= TOKEN_AGE);
                if old || state.refused {
                    // The previous token stays in use: files are missing for a moment while they are replaced.
                    let known = || state.issued.as_ref().and_then(|it| it.authorization.clone());
                    let token = match token_in(path) {
                        Ok(token) => token,
                        Err(error) => known()
                            .or_else(|| fallback.clone())
                            .ok_or_else(|| NoCredentials(format!("{error:#}")))?,
                    };
                    state.issued = Some(self.issued(Some(token)));
                    (state.began, state.refused) = (Some(Instant::now()), false);
                }
                Ok(state.issued.clone().unwrap_or_else(|| self.issued(None)))
            }
            Credential::Plugin(plugin) => self.from(plugin).await,
        }
    }

    /// Notes that a server answered a request with these credentials with 401.
    pub(super) fn refused(&self, issued: &Issued) {
        let mut state = self.lock();
        if state.issued.as_ref().is_some_and(|known| known.number == issued.number) {
            state.refused = true;
        }
    }

    async fn from(self: &Arc<Self>, plugin: &Arc<Plugin>) -> Result<Issued, NoCredentials> {
        let mut ended = self.ended.subscribe();
        loop {
            ended.mark_unchanged();
            if let Some(known) = self.known(plugin, Timestamp::now()) {
                return known;
            }
            // The sender is a field of `self`, so it lives.
            let _ = ended.changed().await;
        }
    }

    /// The current credential. Starts the plugin if necessary. `None` if the plugin is running and there
    /// is no usable credential.
    fn known(
        self: &Arc<Self>,
        plugin: &Arc<Plugin>,
        now: Timestamp,
    ) -> Option<Result<Issued, NoCredentials>> {
        let mut state = self.lock();
        let after_failure = state.refused || state.failed.is_some();
        let pause =
            if after_failure { self.policy.after_failure } else { self.policy.after_success };
        let may_start = !state.running && state.began.is_none_or(|began| began.elapsed() >= pause);
        let due = state.refused
            || state.issued.as_ref().is_none_or(|it| it.renew.is_some_and(|renew| renew <= now));
        if due && may_start {
            state.began = Some(Instant::now());
            state.running = self.start(plugin.clone());
        }
        let valid = |it: &&Issued| it.expires.is_none_or(|expires| now < expires);
        let usable =
            state.issued.as_ref().filter(valid).filter(|_| !(state.refused && state.running));
        match usable {
            Some(issued) => Some(Ok(issued.clone())),
            None if state.running => None,
            // The plugin has just failed, or its credential has expired already.
            None => Some(match (&state.failed, &state.issued) {
                (None, Some(issued)) => Ok(issued.clone()),
                (failed, _) => {
                    let unknown = || NoCredentials("the plugin has not run yet".to_owned());
                    Err(failed.clone().unwrap_or_else(unknown))
                }
            }),
        }
    }

    /// Returns whether the plugin runs.
    fn start(self: &Arc<Self>, plugin: Arc<Plugin>) -> bool {
        let here = self.clone();
        let run = move || here.finish(plugin::run(&plugin), Timestamp::now());
        let spawned = std::thread::Builder::new().name("credentials".to_owned()).spawn(run);
        if let Err(error) = &spawned {
            tracing::error!("cannot start a thread for a credential plugin: {error}");
        }
        spawned.is_ok()
    }

    fn finish(&self, result: anyhow::Result<plugin::PluginCredential>, now: Timestamp) {
        let mut state = self.lock();
        state.running = false;
        match result {
            Ok(credential) => {
                state.number += 1;
                state.issued = Some(Issued {
                    authorization: credential.authorization,
                    certificate: credential.certificate,
                    number: state.number,
                    expires: credential.expires,
                    renew: credential.expires.map(|expires| renewal(now, expires)),
                });
                (state.refused, state.failed) = (false, None);
            }
            Err(error) => {
                let failed = format!("{error:#}");
                tracing::warn!("a credential plugin failed: {failed}");
                state.failed = Some(NoCredentials(failed));
            }
        }
        let number = state.number;
        drop(state);
        self.ended.send_replace(number);
    }

    fn issued(&self, authorization: Option<HeaderValue>) -> Issued {
        let certificate = self.identity.certificate.clone();
        Issued { authorization, certificate, number: 0, expires: None, renew: None }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renewal time: a fifth of the lifetime before the expiry, at most a minute.
fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    let early = (expires.duration_since(now) / 5).clamp(SignedDuration::ZERO, EARLY);
    expires.checked_sub(early).unwrap_or(expires)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin that returns `token-1`, `token-2` and so on, valid for an hour. It fails while there is
    /// a file `broken` in its directory.
    fn plugin(directory: &std::path::Path) -> Identity {
        let expires = Timestamp::now() + SignedDuration::from_hours(1);
        let script = format!(
            r#"cd '{}'; test ! -e broken || exit 3; echo >> runs; n=$(wc -l < runs)
            echo '{{"kind": "ExecCredential", "apiVersion": "v1", "status":
                {{"token": "token-'$n'", "expirationTimestamp": "{expires}"}}}}'"#,
            directory.display()
        );
        let plugin = Plugin {
            command: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), script],
            environment: Vec::new(),
            api_version: "v1".to_owned(),
            install_hint: String::new(),
            cluster: None,
        };
        Identity { certificate: None, credential: Credential::Plugin(Arc::new(plugin)) }
    }

    fn directory(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("credentials-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    async fn token(credentials: &Arc<Credentials>) -> String {
        let issued = credentials.current().await.unwrap();
        issued.authorization.unwrap().to_str().unwrap().to_owned()
    }

    const AT_ONCE: RefreshPolicy =
        RefreshPolicy { after_failure: Duration::ZERO, after_success: Duration::ZERO };

    #[tokio::test]
    async fn a_plugin_runs_again_before_the_expiry_and_after_a_refusal() {
        let directory = directory("plugin");
        let credentials = Credentials::with_policy(plugin(&directory), AT_ONCE);
        let Credential::Plugin(plugin) = credentials.identity.credential.clone() else { panic!() };
        assert_eq!(token(&credentials).await, "Bearer token-1");
        assert_eq!(token(&credentials).await, "Bearer token-1", "it lasts");

        // Half a minute before its expiry, the old credential is used while the plugin runs.
        let mut ended = credentials.ended.subscribe();
        let late = Timestamp::now() + SignedDuration::from_secs(3_570);
        let known = credentials.known(&plugin, late).unwrap().unwrap();
        assert_eq!(known.authorization.unwrap(), "Bearer token-1");
        ended.changed().await.unwrap();
        assert_eq!(token(&credentials).await, "Bearer token-2");

        let refused = credentials.current().await.unwrap();
        credentials.refused(&refused);
        assert_eq!(token(&credentials).await, "Bearer token-3");
        credentials.refused(&refused);
        assert_eq!(token(&credentials).await, "Bearer token-3", "another one was refused");

        // After its expiry, callers wait for the plugin, and its failure is reported.
        std::fs::write(directory.join("broken"), "").unwrap();
        let over = Timestamp::now() + SignedDuration::from_hours(2);
        // Ignore the end of the previous run.
        ended.mark_unchanged();
        assert!(credentials.known(&plugin, over).is_none());
        ended.changed().await.unwrap();
        let failed = credentials.lock().failed.clone().unwrap().to_string();
        assert!(failed.contains("exit status: 3"), "{failed}");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[tokio::test]
    async fn a_token_file_is_read_again_after_a_refusal() {
        let directory = directory("file");
        let path = directory.join("token");
        let credential = Credential::TokenFile { path: path.clone(), fallback: None };
        let credentials = Credentials::new(Identity { certificate: None, credential });
        assert!(credentials.current().await.is_err());
        for (content, expected) in
            [(Some("one\n"), "one"), (Some(" two\r\n"), "two"), (Some("\n"), "two"), (None, "two")]
        {
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            if let Ok(known) = credentials.current().await {
                credentials.refused(&known);
            }
            assert_eq!(token(&credentials).await, format!("Bearer {expected}"), "{content:?}");
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
