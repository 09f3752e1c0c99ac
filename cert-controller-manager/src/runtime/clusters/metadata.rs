//! A client that receives only the metadata of objects. The watcher of kube requests whole objects
//! even if only the metadata is read. For Secrets, that would transfer private keys.

use http::{HeaderValue, Request, header::ACCEPT};
use kube::{Client, client::Body};
use tower::service_fn;

const ONE: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
const LIST: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");

/// A client whose lists and watches return only metadata; decode them as `PartialObjectMeta`.
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
