//! Reads lists in pages with a bounded size in bytes, one page in memory at a time.
//!
//! The API limits pages by the number of objects, and an object may have 1.5 MiB or more as JSON. A page
//! above two mebibytes is cancelled and requested again with fewer objects. Small objects come in large
//! pages. Of all watches that share a [`Relist`](super::Relist), one reads and decodes a page at a time.
//! The others wait only while the page is in memory, not while the server prepares it.

use std::{
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri, request::Parts};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::{Client, client::Body};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tower::{BoxError, service_fn};

/// Number of objects in the first page.
const FIRST_PAGE: u32 = 50;
/// Maximum number of objects in a page.
const MAX_PAGE: u32 = 500;
/// Desired size of a page in bytes.
const TARGET_BYTES: usize = 1 << 20;
/// Maximum size of a page with several objects in bytes.
const MAX_BYTES: usize = 2 << 20;
/// Maximum size of an object in bytes. API servers accept less.
const MAX_OBJECT_BYTES: usize = 32 << 20;
/// Deadline for the rest of a page, because other watches wait for it.
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// The pages of one watch.
pub(super) struct Pages {
    /// Number of objects in the next page.
    size: AtomicU32,
    decoding: Arc<Semaphore>,
    /// Held while a page is in memory.
    page: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Pages {
    /// `decoding` has one permit for each page that may be in memory.
    pub(super) fn new(decoding: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self { size: AtomicU32::new(FIRST_PAGE), decoding, page: Mutex::default() })
    }

    /// A client that replaces the page size of lists. Other requests pass unchanged.
    pub(super) fn client(self: &Arc<Self>, client: &Client) -> Client {
        let (pages, inner) = (self.clone(), client.clone());
        let service = service_fn(move |request: Request<Body>| {
            let (pages, inner) = (pages.clone(), inner.clone());
            async move {
                if is_page(request.uri()) {
                    pages.read(&inner, request.into_parts().0).await
                } else {
                    inner.send(request).await.map_err(BoxError::from)
                }
            }
        });
        Client::new(service, client.default_namespace())
    }

    /// Releases the permit after a page was decoded.
    pub(super) fn decoded(&self) {
        self.keep(None);
    }

    async fn read(&self, client: &Client, mut parts: Parts) -> Result<Response<Body>, BoxError> {
        loop {
            let size = self.size.load(Ordering::Relaxed);
            parts.uri = with_limit(&parts.uri, size)?;
            let request = Request::from_parts(parts.clone(), Body::empty());
            let (head, body) = client.send(request).await?.into_parts();
            if !head.status.is_success() {
                return Ok(Response::from_parts(head, body));
            }
            self.decoded();
            let permit = self.decoding.clone().acquire_owned().await?;
            let largest = if size > 1 { MAX_BYTES } else { MAX_OBJECT_BYTES };
            if let Some(page) = timeout(BODY_TIMEOUT, collect(body, largest)).await?? {
                self.size.store(next_size(size, page.len()), Ordering::Relaxed);
                self.keep(Some(permit));
                return Ok(Response::from_parts(head, Body::from(page)));
            }
            if size == 1 {
                return Err(format!("an object is larger than {MAX_OBJECT_BYTES} bytes").into());
            }
            self.size.store((size / 4).max(1), Ordering::Relaxed);
        }
    }

    fn keep(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

/// The size of the next page after a page of `size` objects and `length` bytes.
fn next_size(size: u32, length: usize) -> u32 {
    let good = usize::try_from(size).unwrap_or(1).saturating_mul(TARGET_BYTES) / length.max(1);
    u32::try_from(good).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE.min(size.saturating_mul(4)))
}

/// Reads the body; `None` if it is larger than `largest`.
async fn collect(body: Body, largest: usize) -> Result<Option<Bytes>, BoxError> {
    match Limited::new(body, largest).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if is_too_large(error.as_ref()) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_too_large(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>()
}

/// Whether the request reads a page of a list: only lists have a limit.
fn is_page(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with(LIMIT)))
}

fn with_limit(uri: &Uri, limit: u32) -> Result<Uri, http::Error> {
    let others = uri.query().unwrap_or_default().split('&');
    let others = others.filter(|part| !part.is_empty() && !part.starts_with(LIMIT));
    let query: Vec<String> = others.map(str::to_owned).chain([format!("{LIMIT}{limit}")]).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), query.join("&")).parse()?);
    Ok(Uri::from_parts(parts)?)
}

const LIMIT: &str = "limit=";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// An API server with objects of these sizes. Returns a client and the requested limits.
    fn server(sizes: Vec<usize>) -> (Client, Arc<Mutex<Vec<usize>>>) {
        let limits = Arc::new(Mutex::new(Vec::new()));
        let seen = limits.clone();
        let service = service_fn(move |request: Request<Body>| {
            let parameter = |name: &str| {
                let mut all = request.uri().query().unwrap().split('&');
                all.find_map(|part| part.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
            };
            let limit: usize = parameter("limit").unwrap();
            let start: usize = parameter("continue").unwrap_or_default();
            seen.lock().unwrap().push(limit);
            let items: Vec<Value> =
                sizes.iter().skip(start).take(limit).map(|size| json!("x".repeat(*size))).collect();
            let end = start + items.len();
            let next = if end < sizes.len() { end.to_string() } else { String::new() };
            let list = json!({"items": items, "metadata": {"continue": next}});
            async move { Ok::<_, BoxError>(Response::new(Body::from(list.to_string().into_bytes()))) }
        });
        (Client::new(service, "default"), limits)
    }

    /// Reads the list; returns the number of objects in each page.
    async fn read(client: &Client, pages: &Pages) -> Vec<usize> {
        let (mut counts, mut next) = (Vec::new(), String::new());
        loop {
            let uri = format!("/apis/g/v1/things?&limit=500&labelSelector=a%3Db&continue={next}");
            let request = Request::get(uri).body(Vec::new()).unwrap();
            let list: Value = client.request(request).await.unwrap();
            pages.decoded();
            counts.push(list["items"].as_array().unwrap().len());
            next = list["metadata"]["continue"].as_str().unwrap().to_owned();
            if next.is_empty() {
                return counts;
            }
        }
    }

    #[tokio::test]
    async fn the_page_size_adapts_to_the_size_of_objects() {
        for (sizes, counts, limits) in [
            (vec![2_000; 5_000], vec![50, 200, 500, 500], vec![50, 200, 500, 500]),
            (vec![930_000; 3], vec![1, 1, 1], vec![50, 12, 3, 1, 1, 1]),
            (vec![9_000_000; 2], vec![1, 1], vec![50, 12, 3, 1, 1]),
            (vec![100_000; 30], vec![12, 10, 8], vec![50, 12, 10, 10]),
        ] {
            let (client, seen) = server(sizes);
            let pages = Pages::new(Arc::new(Semaphore::new(1)));
            let found = read(&pages.client(&client), &pages).await;
            assert_eq!(found[..counts.len()], counts);
            assert_eq!(seen.lock().unwrap()[..limits.len()], limits);
        }
    }

    #[tokio::test]
    async fn a_page_is_read_after_the_previous_one_is_decoded() {
        let (client, seen) = server(vec![1; 10]);
        let decoding = Arc::new(Semaphore::new(1));
        let (one, two) = (Pages::new(decoding.clone()), Pages::new(decoding));
        let get = |client: Client| async move {
            let request = Request::get("/apis/g/v1/things?limit=500").body(Vec::new()).unwrap();
            client.request::<Value>(request).await.unwrap()
        };
        get(one.client(&client)).await;
        let mut second = Box::pin(get(two.client(&client)));
        assert!(timeout(Duration::from_millis(50), &mut second).await.is_err());
        assert_eq!(seen.lock().unwrap().len(), 2, "the request was sent");
        one.decoded();
        second.await;
    }

    #[test]
    fn only_lists_get_another_limit() {
        let uri: Uri = "https://h:1/p?limit=500&continue=a%3D&x=1".parse().unwrap();
        let text = with_limit(&uri, 7).unwrap().to_string();
        assert_eq!(text, "https://h:1/p?continue=a%3D&x=1&limit=7");
        assert!(is_page(&uri));
        assert!(!is_page(&"/p?watch=true&resourceVersion=1".parse().unwrap()));
        assert!(!is_page(&"/p".parse().unwrap()));
    }
}
