//! Signed requests to one CA (RFC 8555 section 6): the directory, the nonces, the replies.
//!
//! One [`Client`] per CA, shared by all of its accounts and orders. They share its connection, its
//! directory and its nonces. The client retries only a bad nonce; the plan decides about all other
//! retries.

mod error;
mod nonces;
mod reply;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ::http::{Method, Request, Response, StatusCode, header};
use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

pub use error::RequestError;
pub use reply::Reply;

use crate::{
    acme::{
        client::nonces::Nonces,
        jws::{self, AccountKey, Signer},
        problem,
        wire::Directory,
    },
    clock::Clock,
    net::Http,
};

/// A client of one CA.
pub struct Client {
    http: Arc<dyn Http>,
    clock: Arc<dyn Clock>,
    directory_url: String,
    /// The first caller fetches it while the others wait. To forget it, the cell is replaced by an
    /// empty one.
    directory: Mutex<Arc<OnceCell<Arc<Directory>>>>,
    nonces: Nonces,
    /// Limits concurrent fetches of nonces after a start. While callers wait, the replies to others
    /// bring nonces. Let's Encrypt allows 20 a second, and 10 at once.
    nonce_permits: Semaphore,
}

impl Client {
    /// A client of the CA whose directory is at `directory_url`. Sends no request yet.
    #[must_use]
    pub fn new(
        http: Arc<dyn Http>,
        clock: Arc<dyn Clock>,
        directory_url: impl Into<String>,
    ) -> Self {
        Self {
            http,
            clock,
            directory_url: directory_url.into(),
            directory: Mutex::default(),
            nonces: Nonces::default(),
            nonce_permits: Semaphore::new(MAX_NONCE_REQUESTS),
        }
    }

    /// Where the CA's directory is.
    #[must_use]
    pub fn directory_url(&self) -> &str {
        &self.directory_url
    }

    /// The CA's directory (RFC 8555 section 7.1.1), fetched once. A failure is not cached.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn directory(&self) -> Result<Arc<Directory>, RequestError> {
        let cell = Arc::clone(&self.directory_cell());
        cell.get_or_try_init(|| self.fetch_directory()).await.cloned()
    }

    /// Fetches the directory again next time: one of its URLs is gone, or the caller needs the
    /// current content.
    pub fn forget_directory(&self) {
        *self.directory_cell() = Arc::default();
    }

    /// Sends an unsigned GET, for public resources (RFC 9773 section 4.1).
    ///
    /// # Errors
    /// See [`RequestError`].
    pub(crate) async fn get(&self, url: &str) -> Result<Reply, RequestError> {
        let response = self.exchange(Method::GET, url, Bytes::new()).await?;
        self.nonces.put(nonces::of(&response));
        Reply::read(url, response, self.clock.now())
    }

    /// Sends a signed request (RFC 8555 section 6.2). With the empty `payload` it is a POST-as-GET
    /// (section 6.3). After a bad nonce it retries with the next nonce at once (section 6.5).
    pub(crate) async fn post(
        &self,
        key: &AccountKey,
        signer: Signer<'_>,
        url: &str,
        payload: &str,
    ) -> Result<Reply, RequestError> {
        let mut fresh_nonce = None;
        let mut tries = 0;
        loop {
            let nonce = match fresh_nonce.take().or_else(|| self.nonces.take()) {
                Some(nonce) => nonce,
                None => self.fetch_nonce().await?,
            };
            let body = jws::sign(key, signer, &nonce, url, payload)?;
            let response = self.exchange(Method::POST, url, Bytes::from(body)).await?;
            let next = nonces::of(&response);
            let outcome = Reply::read(url, response, self.clock.now());
            tries += 1;
            match outcome {
                Err(RequestError::Problem(problem))
                    if problem.is_bad_nonce() && tries <= MAX_BAD_NONCES =>
                {
                    // The nonce of the refusal is new; all nonces in the pool may be stale.
                    fresh_nonce = next;
                }
                outcome => {
                    self.nonces.put(next);
                    return outcome;
                }
            }
        }
    }

    /// Follows redirects, which RFC 8555 does not mention and CAs use when they move. Only the
    /// directory is followed, because its request is not signed.
    async fn fetch_directory(&self) -> Result<Arc<Directory>, RequestError> {
        let mut url = self.directory_url.clone();
        for _ in 0..MAX_REDIRECTS {
            let response = self.exchange(Method::GET, &url, Bytes::new()).await?;
            let next = reply::redirection(&url, response.headers());
            match next.filter(|_| response.status().is_redirection()) {
                Some(next) if may_lead_to(&url, &next) => url = next,
                Some(_) | None => {
                    // Some CAs send the first nonce with the directory.
                    self.nonces.put(nonces::of(&response));
                    let directory = Reply::read(&url, response, self.clock.now())?.json()?;
                    return Ok(Arc::new(directory));
                }
            }
        }
        let url = problem::line(&self.directory_url, MAX_SHOWN);
        let why = format!("it redirects more than {MAX_REDIRECTS} times");
        Err(RequestError::Unusable { url, why })
    }

    /// RFC 8555 section 7.2.
    async fn fetch_nonce(&self) -> Result<String, RequestError> {
        let directory = self.directory().await?;
        // The semaphore is never closed, so this always gets a permit.
        let _permit = self.nonce_permits.acquire().await.ok();
        if let Some(nonce) = self.nonces.take() {
            return Ok(nonce);
        }
        let url = &directory.new_nonce;
        let mut response = self.exchange(Method::HEAD, url, Bytes::new()).await?;
        if matches!(response.status(), StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED)
        {
            // Section 7.2 allows GET as well, and some servers support nothing else.
            response = self.exchange(Method::GET, url, Bytes::new()).await?;
        }
        match nonces::of(&response) {
            Some(nonce) => Ok(nonce),
            None => {
                let outcome = Reply::read(url, response, self.clock.now());
                if outcome.as_ref().is_err_and(RequestError::is_gone) {
                    self.forget_directory();
                }
                Err(outcome?.unusable("it has no Replay-Nonce"))
            }
        }
    }

    async fn exchange(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, RequestError> {
        let mut request = Request::builder().method(&method).uri(url);
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/jose+json");
        }
        let request = request.body(body).map_err(|_| RequestError::Unusable {
            url: url.to_owned(),
            why: "it is no URL".to_owned(),
        })?;
        Ok(self.http.send(request).await?)
    }

    fn directory_cell(&self) -> MutexGuard<'_, Arc<OnceCell<Arc<Directory>>>> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("directory", &self.directory_url).finish_non_exhaustive()
    }
}

/// Whether a redirect from `url` to `next` is followed: never from HTTPS to HTTP.
fn may_lead_to(url: &str, next: &str) -> bool {
    let scheme = |url: &str| url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme(next).as_deref() {
        Some("https") => true,
        Some("http") => scheme(url).as_deref() == Some("http"),
        _ => false,
    }
}

/// Requests for one directory, redirects included.
const MAX_REDIRECTS: usize = 5;
/// Characters of a URL in a message.
const MAX_SHOWN: usize = 200;
/// Retries of one request. Pebble can be configured to refuse every second nonce.
const MAX_BAD_NONCES: usize = 10;
/// Concurrent requests for a nonce.
const MAX_NONCE_REQUESTS: usize = 4;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::{
        acme::problem::ProblemScope,
        clock::Manual,
        model::disposition::{Disposition, RetrySchedule},
        net::scripted::{Scripted, Seen, reply},
    };

    const DIRECTORY: &str = "https://ca/dir";

    fn directory() -> Response<Bytes> {
        reply(200).json(&json!({
            "newNonce": "https://ca/nonce", "newAccount": "https://ca/account", "newOrder": "https://ca/order",
        }))
    }

    fn bad_nonce() -> serde_json::Value {
        json!({"type": "urn:ietf:params:acme:error:badNonce", "detail": "used before"})
    }

    fn client(
        script: impl FnMut(&Seen) -> Response<Bytes> + Send + 'static,
    ) -> (Client, Arc<Scripted>) {
        let http = Arc::new(Scripted::new(script));
        let clock = Arc::new(Manual::at("2026-11-22T10:00:00Z".parse().unwrap()));
        (Client::new(http.clone(), clock, DIRECTORY), http)
    }

    async fn post(client: &Client) -> Result<Reply, RequestError> {
        let key = AccountKey::generate().unwrap();
        client.post(&key, Signer::Account("https://ca/account/1"), "https://ca/x", "").await
    }

    #[tokio::test]
    async fn with_a_nonce_in_the_pool_only_the_request_is_sent() {
        let mut count = 0;
        let (client, http) = client(move |seen| {
            count += 1;
            match seen.path() {
                "/dir" => directory(),
                _ => reply(200).nonce(&format!("n{count}")).empty(),
            }
        });
        for _ in 0..3 {
            post(&client).await.unwrap();
        }
        assert_eq!(http.log(), ["GET /dir", "HEAD /nonce", "POST /x", "POST /x", "POST /x"]);
        let used: Vec<_> = http.seen().iter().filter_map(Seen::nonce).collect();
        assert_eq!(used, ["n2", "n3", "n4"]);
    }

    #[tokio::test]
    async fn nine_bad_nonces_in_a_row_are_retried() {
        let mut refused = 0;
        let (client, http) = client(move |seen| match seen.path() {
            "/dir" => directory(),
            "/nonce" => reply(200).nonce("first").empty(),
            _ if refused < 9 => {
                refused += 1;
                reply(400).nonce(&format!("after{refused}")).json(&bad_nonce())
            }
            _ => reply(200).nonce("good").empty(),
        });
        post(&client).await.unwrap();
        let used: Vec<_> = http.seen().iter().filter_map(Seen::nonce).collect();
        assert_eq!((used.len(), used[0].as_str(), used[9].as_str()), (10, "first", "after9"));
        assert_eq!(http.log().iter().filter(|line| line.starts_with("HEAD")).count(), 1);
    }

    #[tokio::test]
    async fn retries_after_bad_nonces_are_bounded() {
        let (client, http) = client(|seen| match seen.path() {
            "/dir" => directory(),
            "/nonce" => reply(200).nonce("n").empty(),
            _ => reply(400).nonce("n").json(&bad_nonce()),
        });
        let error = post(&client).await.unwrap_err();
        assert_eq!(error.to_string(), "badNonce: used before (HTTP 400)");
        assert_eq!(
            error.disposition(ProblemScope::Order),
            Disposition::Retry(RetrySchedule::Transport)
        );
        assert_eq!(http.log().iter().filter(|line| line.starts_with("POST")).count(), 11);
    }

    #[tokio::test]
    async fn after_a_reply_without_nonce_a_new_one_is_fetched() {
        let (client, http) = client(|seen| match seen.path() {
            "/dir" => directory(),
            "/nonce" => reply(200).nonce("n").empty(),
            _ => reply(200).empty(),
        });
        post(&client).await.unwrap();
        post(&client).await.unwrap();
        assert_eq!(http.log(), ["GET /dir", "HEAD /nonce", "POST /x", "HEAD /nonce", "POST /x"]);
    }

    #[tokio::test]
    async fn a_failed_directory_is_fetched_again_and_a_good_one_is_cached() {
        let mut down = true;
        let (client, http) = client(move |_| {
            if std::mem::replace(&mut down, false) {
                reply(502).html("<h1>Bad Gateway</h1>")
            } else {
                directory()
            }
        });
        let error = client.directory().await.unwrap_err();
        assert_eq!(error.to_string(), "the answer is no ACME problem document (HTTP 502)");
        for _ in 0..3 {
            assert_eq!(client.directory().await.unwrap().new_order, "https://ca/order");
        }
        assert_eq!(http.log().len(), 2);
        client.forget_directory();
        client.directory().await.unwrap();
        assert_eq!(http.log().len(), 3);
    }

    #[tokio::test]
    async fn a_moved_directory_is_followed_or_its_target_is_reported() {
        for (status, target, want) in [
            (301, "/new", Ok(3)),
            (302, "https://other/new", Ok(3)),
            (307, "new", Ok(3)),
            (308, "//other/new", Ok(3)),
            (308, "http://ca/new", Err("it redirects to http://ca/new (HTTP 308)")),
            (301, "ftp://ca/new", Err("it redirects to ftp://ca/new (HTTP 301)")),
            (301, "/dir", Err("it redirects more than 5 times")),
            (304, "", Err("it redirects to nowhere (HTTP 304)")),
        ] {
            let (client, http) = client(move |seen| match (seen.method.as_str(), seen.path()) {
                ("GET", "/dir") => {
                    let moved = reply(status);
                    let moved =
                        if target.is_empty() { moved } else { moved.header("location", target) };
                    moved.html("a secret")
                }
                ("GET", "/new") => directory(),
                _ => reply(200).nonce("n").empty(),
            });
            let outcome = post(&client).await;
            match want {
                Ok(requests) => {
                    outcome.unwrap();
                    assert_eq!(http.log().len(), requests + 1, "{:?}", http.log());
                }
                Err(why) => {
                    let want = format!("the answer to https://ca/dir cannot be used: {why}");
                    assert_eq!(outcome.unwrap_err().to_string(), want);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_nonce_is_fetched_by_get_where_head_is_not_allowed() {
        let (client, http) = client(|seen| match (seen.method.as_str(), seen.path()) {
            ("HEAD", _) => reply(405).empty(),
            ("GET", "/nonce") => reply(204).nonce("n").empty(),
            ("GET", _) => directory(),
            _ => reply(200).empty(),
        });
        post(&client).await.unwrap();
        assert_eq!(http.log(), ["GET /dir", "HEAD /nonce", "GET /nonce", "POST /x"]);
    }

    #[tokio::test]
    async fn concurrent_callers_fetch_the_directory_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let (client, _) = client(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            directory()
        });
        let all = futures::future::join_all((0..20).map(|_| client.directory())).await;
        assert!(all.iter().all(Result::is_ok));
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn an_invalid_directory_is_an_error() {
        let (client, _) = client(|_| reply(200).html("<html>hello</html>"));
        let error = client.directory().await.unwrap_err().to_string();
        assert!(error.starts_with("the answer to https://ca/dir cannot be used: "), "{error}");
    }
}
