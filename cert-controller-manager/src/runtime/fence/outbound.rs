//! Applies the fence to requests to a CA: only the leader may create or finalize orders.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cert_lib::net::{Http, HttpError};

use super::Fence;

/// Sends requests that the fence permits.
pub struct FencedHttp {
    inner: Arc<dyn Http>,
    fence: Fence,
}

impl FencedHttp {
    /// Checks `fence` before each request of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Http>, fence: Fence) -> Self {
        Self { inner, fence }
    }
}

#[async_trait]
impl Http for FencedHttp {
    async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, HttpError> {
        match self.fence.check(request.method()) {
            Ok(()) => self.inner.send(request).await,
            Err(reason) => Err(HttpError::Unreachable {
                host: request.uri().host().unwrap_or_default().to_owned(),
                reason: reason.to_string(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Answers;

    #[async_trait]
    impl Http for Answers {
        async fn send(&self, _: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
            Ok(http::Response::default())
        }
    }

    #[tokio::test]
    async fn only_the_leader_sends_writes_to_a_ca() {
        for (fence, method, sent) in [
            (Fence::always(), "POST", true),
            (Fence::closed(), "POST", false),
            (Fence::closed(), "GET", true),
        ] {
            let http = FencedHttp::new(Arc::new(Answers), fence);
            let request = http::Request::builder().method(method).uri("https://ca.example/x");
            let answer = http.send(request.body(Bytes::new()).unwrap()).await;
            assert_eq!(answer.is_ok(), sent, "{method}");
        }
    }
}
