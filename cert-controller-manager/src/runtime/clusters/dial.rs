//! Opens TCP connections that the [`Fence`] guards.

use std::task::{Context, Poll};

use futures::{FutureExt, future::BoxFuture};
use http::Uri;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use crate::runtime::fence::{Fence, socket::Guarded};

/// See the [module](self).
#[derive(Clone)]
pub(super) struct Dial {
    tcp: HttpConnector,
    fence: Fence,
}

impl Dial {
    pub(super) const fn new(tcp: HttpConnector, fence: Fence) -> Self {
        Self { tcp, fence }
    }
}

impl Service<Uri> for Dial {
    type Response = Guarded<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let (fence, socket) = (self.fence.clone(), self.tcp.call(to));
        async move { Ok(Guarded::new(socket.await?, fence)) }.boxed()
    }
}
