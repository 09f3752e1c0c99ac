//! Authorizes `/metrics` by TokenReview and SubjectAccessReview.
//!
//! As for the components of Kubernetes, a reader needs a token of the default cluster and the right
//! to `get` the URL `/metrics`. Clients may be unauthenticated: requests to the API server are limited
//! in rate, concurrency and time. Results are cached for a short time, in a bounded number. The
//! cache contains digests of tokens, never tokens.

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

/// How long a result is cached. A revoked right stays effective for this time.
const CACHE_TTL: Duration = Duration::from_secs(60);
/// Maximum number of cached results.
const MAX_CACHED: usize = 256;
/// Maximum number of concurrent reviews.
const MAX_CONCURRENT: usize = 4;
/// Rate limit for reviews of unknown tokens.
const REVIEWS_PER_SECOND: u32 = 5;
/// Burst of this rate limit.
const BURST: u32 = 20;
/// Deadline of a review, including the wait for other reviews.
const DEADLINE: Duration = Duration::from_secs(10);

/// See the [module](self).
#[derive(Clone)]
pub struct Authorizer(Arc<Inner>);

struct Inner {
    client: Client,
    reviews: Mutex<HashMap<String, (Review, Instant)>>,
    permits: Semaphore,
    /// When the whole [`BURST`] is available again.
    full: Mutex<Option<Instant>>,
}

/// Why a token could not be reviewed.
#[derive(Clone, Debug, Eq, PartialEq)]
enum ReviewError {
    /// The rate limit for unknown tokens is exceeded.
    TooMany,
    /// The API server does not respond.
    Unavailable(String),
}

/// Result of the review of a token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Review {
    /// The token is valid, and its user may read `/metrics`.
    Allowed,
    /// The token is valid, but its user may not read `/metrics`.
    Forbidden,
    /// The token is not valid.
    Unknown,
}

impl Authorizer {
    /// Sends reviews with `client`, which must belong to the Tokio runtime that serves the port.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let permits = Semaphore::new(MAX_CONCURRENT);
        Self(Arc::new(Inner { client, reviews: Mutex::default(), permits, full: Mutex::default() }))
    }

    async fn review(&self, token: &str) -> Result<Review, ReviewError> {
        let key = digest(token.as_bytes());
        if let Some(review) = self.0.cached(&key) {
            return Ok(review);
        }
        // A flood of unknown tokens must not lock out readers that were allowed before.
        if !self.0.was_allowed(&key) && !self.0.take_quota(Instant::now()) {
            return Err(ReviewError::TooMany);
        }
        let reviewed = async {
            let _permit = self.0.permits.acquire().await.map_err(|error| error.to_string())?;
            match self.0.cached(&key) {
                Some(review) => Ok(review),
                None => self.0.send_review(token).await.map_err(|error| brief(&error)),
            }
        };
        let review = match timeout(DEADLINE, reviewed).await {
            Ok(reviewed) => reviewed.map_err(ReviewError::Unavailable)?,
            Err(_) => {
                let why = "the API server does not answer in time".to_owned();
                return Err(ReviewError::Unavailable(why));
            }
        };
        self.0.keep(key, review);
        Ok(review)
    }
}

impl Inner {
    async fn send_review(&self, token: &str) -> kube::Result<Review> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: None },
            status: None,
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &review).await?;
        let status = review.status.unwrap_or_default();
        let Some(user) = status.user.filter(|_| status.authenticated == Some(true)) else {
            return Ok(Review::Unknown);
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let access = api.create(&PostParams::default(), &access_of(user)).await?;
        match access.status.is_some_and(|status| status.allowed) {
            true => Ok(Review::Allowed),
            false => Ok(Review::Forbidden),
        }
    }

    fn cached(&self, key: &str) -> Option<Review> {
        let reviews = self.reviews.lock().unwrap_or_else(PoisonError::into_inner);
        let (review, until) = reviews.get(key)?;
        (*until > Instant::now()).then_some(*review)
    }

    /// Whether the last result, even if expired, allowed the token.
    fn was_allowed(&self, key: &str) -> bool {
        let reviews = self.reviews.lock().unwrap_or_else(PoisonError::into_inner);
        reviews.get(key).is_some_and(|(review, _)| *review == Review::Allowed)
    }

    /// Takes a token of the rate limit for unknown tokens.
    fn take_quota(&self, now: Instant) -> bool {
        let interval = Duration::from_secs(1) / REVIEWS_PER_SECOND;
        let mut cached = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let full = cached.map_or(now, |full| full.max(now)) + interval;
        let may = full <= now + interval * BURST;
        if may {
            *cached = Some(full);
        }
        may
    }

    fn keep(&self, key: String, review: Review) {
        let now = Instant::now();
        let mut reviews = self.reviews.lock().unwrap_or_else(PoisonError::into_inner);
        // Allowed readers are few. Other tokens must not evict them.
        if reviews.len() >= MAX_CACHED {
            reviews.retain(|_, (review, until)| *review == Review::Allowed || *until > now);
        }
        if reviews.len() >= MAX_CACHED {
            reviews.retain(|_, (review, _)| *review == Review::Allowed);
        }
        if reviews.len() >= MAX_CACHED {
            reviews.retain(|_, (_, until)| *until > now);
        }
        if reviews.len() < MAX_CACHED {
            reviews.insert(key, (review, now + CACHE_TTL));
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

/// Middleware that forwards authorized requests and rejects all others.
pub(super) async fn check(
    State(authorizer): State<Authorizer>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = bearer(&request) else {
        return unauthorized("a bearer token of the default cluster is required\n");
    };
    match authorizer.review(token).await {
        Ok(Review::Allowed) => next.run(request).await,
        Ok(Review::Forbidden) => {
            let why = "the user of this token may not get the URL /metrics; bind a ClusterRole \
                       with nonResourceURLs [/metrics] and verbs [get]\n";
            (StatusCode::FORBIDDEN, why).into_response()
        }
        Ok(Review::Unknown) => unauthorized("the default cluster does not know this token\n"),
        Err(ReviewError::TooMany) => {
            let why = "too many requests with unknown tokens; try again later\n";
            (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "1")], why).into_response()
        }
        Err(ReviewError::Unavailable(error)) => {
            tracing::warn!("cannot review the token of a request for /metrics: {error}");
            let why =
                "cannot review this token: the default cluster does not answer; try again later\n";
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

    /// An authorizer whose API server knows the tokens `good` and `poor`, and the number of reviews.
    fn authorizer() -> (Authorizer, Arc<AtomicUsize>) {
        let reviewed = Arc::new(AtomicUsize::new(0));
        let count = reviewed.clone();
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
                    let cached = ["good", "poor"].map(Value::from).contains(&spec["token"]);
                    json!({"authenticated": cached, "user": user})
                } else {
                    let expected = json!({"path": "/metrics", "verb": "get"});
                    assert_eq!(
                        (&spec["nonResourceAttributes"], &spec["uid"]),
                        (&expected, &json!("u"))
                    );
                    json!({"allowed": spec["user"] == "good"})
                };
                let body = Body::from(review.to_string().into_bytes());
                Ok::<_, Infallible>(Answer::builder().status(201).body(body).unwrap())
            }
        });
        (Authorizer::new(Client::new(service, "default")), reviewed)
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_of_the_api_server_are_cached() {
        let (authorizer, reviewed) = authorizer();
        for (token, review) in
            [("good", Review::Allowed), ("poor", Review::Forbidden), ("bad", Review::Unknown)]
        {
            for _ in 0..3 {
                assert_eq!(authorizer.review(token).await, Ok(review), "{token}");
            }
        }
        assert_eq!(reviewed.load(Ordering::Relaxed), 3);
        tokio::time::advance(CACHE_TTL).await;
        assert_eq!(authorizer.review("good").await, Ok(Review::Allowed));
        assert_eq!(reviewed.load(Ordering::Relaxed), 4, "a review does not hold for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn the_cache_is_bounded_and_keeps_allowed_tokens() {
        let (authorizer, reviewed) = authorizer();
        assert_eq!(authorizer.review("good").await, Ok(Review::Allowed));
        for number in 0..MAX_CACHED + 20 {
            let token = format!("bad {number}");
            tokio::time::advance(Duration::from_millis(200)).await;
            assert_eq!(authorizer.review(&token).await, Ok(Review::Unknown));
        }
        assert!(authorizer.0.reviews.lock().unwrap().len() <= MAX_CACHED);
        let before = reviewed.load(Ordering::Relaxed);
        assert_eq!(authorizer.review("good").await, Ok(Review::Allowed));
        assert_eq!(reviewed.load(Ordering::Relaxed), before);
    }

    #[tokio::test(start_paused = true)]
    async fn reviews_of_unknown_tokens_are_rate_limited_and_those_of_allowed_ones_are_not() {
        let (authorizer, reviewed) = authorizer();
        let cached = || reviewed.load(Ordering::Relaxed);
        assert_eq!(authorizer.review("good").await, Ok(Review::Allowed));
        tokio::time::advance(CACHE_TTL).await;
        let flood = async |from: u32| {
            for number in from..from + 100 {
                let review = authorizer.review(&format!("bad {number}")).await;
                assert!(matches!(review, Ok(Review::Unknown) | Err(ReviewError::TooMany)));
            }
        };
        flood(0).await;
        assert_eq!(cached(), 21, "a burst");
        assert_eq!(authorizer.review("good").await, Ok(Review::Allowed));
        assert_eq!(authorizer.review("poor").await, Err(ReviewError::TooMany));
        tokio::time::advance(Duration::from_secs(2)).await;
        flood(100).await;
        assert_eq!(cached(), 22 + 10, "five a second");
        assert_eq!(authorizer.review("bad 0").await, Ok(Review::Unknown), "cached is not reviewed");
    }
}
