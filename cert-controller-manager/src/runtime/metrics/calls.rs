//! Counts and times what the engine asks of the world.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use cert_lib::{
    model::name::DnsName,
    net::{Answer, Http, HttpError, RecordKind, ResolveError, Resolver},
};
use http::{Request, Response};
use tokio::time::Instant;

use crate::runtime::metrics::{Metrics, QueryResult};

/// An [`Http`] that is counted.
pub struct CountedHttp {
    inner: Arc<dyn Http>,
    metrics: Metrics,
}

impl CountedHttp {
    /// Counts what goes through `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Http>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }
}

#[async_trait]
impl Http for CountedHttp {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let method = request.method().clone();
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let start = Instant::now();
        let result = self.inner.send(request).await;
        let status = result.as_ref().ok().map(Response::status);
        self.metrics.acme_call(&host, &method, status, start.elapsed());
        result
    }
}

/// A [`Resolver`] that is counted.
pub struct CountedResolver {
    inner: Arc<dyn Resolver>,
    metrics: Metrics,
}

impl CountedResolver {
    /// Counts what goes through `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Resolver>, metrics: Metrics) -> Self {
        Self { inner, metrics }
    }
}

#[async_trait]
impl Resolver for CountedResolver {
    async fn query(
        &self,
        server: SocketAddr,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let start = Instant::now();
        let result = self.inner.query(server, name, kind).await;
        self.metrics.dns_call(classify(&result), start.elapsed());
        result
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        self.inner.system_servers()
    }
}

fn classify(result: &Result<Answer, ResolveError>) -> QueryResult {
    match result {
        Ok(answer) if answer.no_such_name => QueryResult::NoSuchName,
        Ok(answer) if answer.records.is_empty() => QueryResult::Empty,
        Ok(_) => QueryResult::Found,
        Err(ResolveError::Failed { .. }) => QueryResult::Failed,
        Err(ResolveError::Unreachable { .. }) => QueryResult::Unreachable,
    }
}
