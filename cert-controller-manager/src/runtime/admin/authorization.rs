//! Authorizes `/metrics` by TokenReview and SubjectAccessReview.
//!
//! A reader needs a token that the default cluster knows, and the right to `get` the URL `/metrics`,
//! as for the components of Kubernetes. Strangers may come here, so the API server is asked rarely,
//! by few at once, each with a deadline, and verdicts are kept for a short time and in a bounded
//! number. Tokens are kept as digests only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{
        StatusCode,
        header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use cert_lib::model::request::digest;
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams, core::ObjectMeta};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::runtime::errors::brief;

/// How long a verdict holds: so long may somebody read on whose right was taken.
const HOLDS: Duration = Duration::from_secs(60);
/// How many verdicts are kept.
const KEPT: usize = 256;
/// How many ask the API server at once.
const AT_ONCE: usize = 4;
/// How many unknown tokens the API server is asked about in the long run.
const PER_SECOND: u32 = 5;
/// How many of them may come at once.
const BURST: u32 = 20;
/// How long it may take, with the wait for others.
const DEADLINE: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

struct Inner {
    client: Client,
    verdicts: Mutex<HashMap<String, (Verdict, Instant)>>,
    room: Semaphore,
    /// When all of [`BURST`] is there again.
    full: Mutex<Option<Instant>>,
}

/// Why there is no verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
enum NoVerdict {
    /// Too many unknown tokens came.
    TooMany,
    /// The API server cannot be asked.
    Unavailable(String),
}

/// What an API server says of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    /// It may read.
    Allowed,
    /// It is known, and may not.
    Forbidden,
    /// It is not known.
    Unknown,
}

impl Authorizer {
    /// Asks the API server of `client`, which must have been made on the runtime that serves the page.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let room = Semaphore::new(AT_ONCE);
        Self(Arc::new(Inner { client, verdicts: Mutex::default(), room, full: Mutex::default() }))
    }

    async fn judge(&self, token: &str) -> Result<Verdict, NoVerdict> {
        let key = digest(token.as_bytes());
        if let Some(verdict) = self.0.known(&key) {
            return Ok(verdict);
        }
        // Strangers must not keep out those that were allowed until now.
        if !self.0.was_allowed(&key) && !self.0.may_ask(Instant::now()) {
            return Err(NoVerdict::TooMany);
        }
        let asked = async {
            let _room = self.0.room.acquire().await.map_err(|error| error.to_string())?;
            match self.0.known(&key) {
                Some(verdict) => Ok(verdict),
                None => self.0.ask(token).await.map_err(|error| brief(&error)),
            }
        };
        let verdict = match timeout(DEADLINE, asked).await {
            Ok(asked) => asked.map_err(NoVerdict::Unavailable)?,
            Err(_) => {
                let why = "the API server does not answer in time".to_owned();
                return Err(NoVerdict::Unavailable(why));
            }
        };
        self.0.keep(key, verdict);
        Ok(verdict)
    }
}

impl Inner {
    async fn ask(&self, token: &str) -> kube::Result<Verdict> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            status: None,
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Verdict::Unknown);
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let access = api.create(&PostParams::default(), &access_of(user)).await?;
        match access.status.is_some_and(|status| status.allowed) {
            true => Ok(Verdict::Allowed),
            false => Ok(Verdict::Forbidden),
        }
    }

    fn known(&self, key: &str) -> Option<Verdict> {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let (verdict, until) = verdicts.get(key)?;
        (*until > Instant::now()).then_some(*verdict)
    }

    /// Whether the last verdict, be it too old, was that it may read.
    fn was_allowed(&self, key: &str) -> bool {
        let verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        verdicts.get(key).is_some_and(|(verdict, _)| *verdict == Verdict::Allowed)
    }

    /// Takes one of the questions that strangers may cause.
    fn may_ask(&self, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / PER_SECOND;
        let mut known = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let full = known.map_or(now, |full| full.max(now)) + interval;
        let may = full <= now + interval * BURST;
        if may {
            *known = Some(full);
        }
        may
    }

    fn keep(&self, key: String, verdict: Verdict) {
        let now = Instant::now();
        let mut verdicts = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that may read are few; many others must not drive them out.
        if verdicts.len() >= KEPT {
            verdicts.retain(|_, (verdict, until)| *verdict == Verdict::Allowed || *until > now);
        }
        if verdicts.len() >= KEPT {
            verdicts.retain(|_, (verdict, _)| *verdict == Verdict::Allowed);
        }
        if verdicts.len() >= KEPT {
            verdicts.retain(|_, (_, until)| *until > now);
        }
        if verdicts.len() < KEPT {
            verdicts.insert(key, (verdict, now + HOLDS));
        }
    }
}

fn access_of(user: UserInfo) -> SubjectAccessReview {
    let attributes =
        NonResourceAttributes { path: Some("/metrics".to_owned()), verb: Some("get".to_owned()) };
    SubjectAccessReview {
        metadata: ObjectMeta::default(),
        spec: SubjectAccessReviewSpec {
            user: user.username,
            uid: user.uid,
            groups: user.groups,
            extra: user.extra,
            non_resource_attributes: Some(attributes),
            resource_attributes: None,
        },
        status: None,
    }
}

/// Lets a request pass that may read the page, and answers all others.
pub(super) async fn check(
    State(authorizer): State<Authorizer>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = bearer(&request) else {
        return unauthorized("a bearer token of the default cluster is needed\n");
    };
    match authorizer.judge(token).await {
        Ok(Verdict::Allowed) => next.run(request).await,
        Ok(Verdict::Forbidden) => {
            let why = "the owner of this token may not get the URL /metrics: bind a ClusterRole \
                       with nonResourceURLs [/metrics] and verbs [get]\n";
            (StatusCode::FORBIDDEN, why).into_response()
        }
        Ok(Verdict::Unknown) => unauthorized("the default cluster does not know this token\n"),
        Err(NoVerdict::TooMany) => {
            let why = "too many unknown tokens were shown here lately\n";
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
        }
        Err(NoVerdict::Unavailable(error)) => {
            tracing::warn!("cannot ask the default cluster who may read /metrics: {error}");
            let why = "the default cluster cannot be asked about this token now\n";
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

fn bearer(request: &Request) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

fn unauthorized(why: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], why).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use http::Response as Answer;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    /// An authorizer whose API server knows the token `good` and the token `poor`, and how often it
    /// was asked.
    fn authorizer() -> (Authorizer, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let count = count.clone();
            async move {
                let is_token = request.uri().path().ends_with("/tokenreviews");
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                let spec = review["spec"].clone();
                review["status"] = if is_token {
                    count.fetch_add(1, Ordering::Relaxed);
                    let user = json!({"username": spec["token"], "groups": ["g"], "uid": "u"});
                    let known = ["good", "poor"].map(Value::from).contains(&spec["token"]);
                    json!({"authenticated": known, "user": user})
                } else {
                    let asks = json!({"path": "/metrics", "verb": "get"});
                    assert_eq!(
                        (&spec["nonResourceAttributes"], &spec["uid"]),
                        (&asks, &json!("u"))
                    );
                    json!({"allowed": spec["user"] == "good"})
                };
                let body = Body::from(review.to_string().into_bytes());
                Ok::<_, Infallible>(Answer::builder().status(201).body(body).unwrap())
            }
        });
        (Authorizer::new(Client::new(service, "default")), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn the_api_server_says_who_may_read_and_is_not_asked_each_time() {
        let (authorizer, asked) = authorizer();
        for (token, verdict) in
            [("good", Verdict::Allowed), ("poor", Verdict::Forbidden), ("bad", Verdict::Unknown)]
        {
            for _ in 0..3 {
                assert_eq!(authorizer.judge(token).await, Ok(verdict), "{token}");
            }
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3);
        tokio::time::advance(HOLDS).await;
        assert_eq!(authorizer.judge("good").await, Ok(Verdict::Allowed));
        assert_eq!(asked.load(Ordering::Relaxed), 4, "a verdict does not hold for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn many_tokens_cost_little_and_do_not_drive_out_a_good_one() {
        let (authorizer, asked) = authorizer();
        assert_eq!(authorizer.judge("good").await, Ok(Verdict::Allowed));
        for number in 0..KEPT + 20 {
            let token = format!("bad {number}");
            tokio::time::advance(Duration::from_millis(200)).await;
            assert_eq!(authorizer.judge(&token).await, Ok(Verdict::Unknown));
        }
        assert!(authorizer.0.verdicts.lock().unwrap().len() <= KEPT);
        let before = asked.load(Ordering::Relaxed);
        assert_eq!(authorizer.judge("good").await, Ok(Verdict::Allowed));
        assert_eq!(asked.load(Ordering::Relaxed), before);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_tokens_does_not_reach_the_api_server_and_a_good_one_still_does() {
        let (authorizer, asked) = authorizer();
        let known = || asked.load(Ordering::Relaxed);
        assert_eq!(authorizer.judge("good").await, Ok(Verdict::Allowed));
        tokio::time::advance(HOLDS).await;
        let flood = async |from: u32| {
            for number in from..from + 100 {
                let verdict = authorizer.judge(&format!("bad {number}")).await;
                assert!(matches!(verdict, Ok(Verdict::Unknown) | Err(NoVerdict::TooMany)));
            }
        };
        flood(0).await;
        assert_eq!(known(), 21, "a burst");
        assert_eq!(authorizer.judge("good").await, Ok(Verdict::Allowed));
        assert_eq!(authorizer.judge("poor").await, Err(NoVerdict::TooMany));
        tokio::time::advance(Duration::from_secs(2)).await;
        flood(100).await;
        assert_eq!(known(), 22 + 10, "five a second");
        assert_eq!(authorizer.judge("bad 0").await, Ok(Verdict::Unknown), "known is not asked");
    }
}
