//! A client that is sent metadata only. kube's watcher asks for whole objects also where only their
//! metadata is read, and whole Secrets are keys: neither sent nor parsed is better than dropped.

use http::{HeaderValue, Request, header::ACCEPT};
use kube::{Client, client::Body};
use tower::service_fn;

const ONE: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
const LIST: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");

/// Lists and watches of this client bring metadata only; read them as `PartialObjectMeta`.
#[must_use]
pub fn of_metadata(client: &Client) -> Client {
    let inner = client.clone();
    let service = service_fn(move |mut request: Request<Body>| {
        let watches = request.uri().query().is_some_and(|query| {
            query.split('&').any(|part| part.starts_with("watch=") && !part.ends_with("false"))
        });
        request.headers_mut().insert(ACCEPT, if watches { ONE } else { LIST });
        let inner = inner.clone();
        async move { inner.send(request).await }
    });
    Client::new(service, client.default_namespace())
}
