//! Counts and times the HTTP requests and DNS queries of the engine.

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

/// An [`Http`] that counts requests.
pub struct CountedHttp {
    inner: Arc<dyn Http>,
    metrics: Metrics,
}

impl CountedHttp {
    /// Counts the calls of `inner`.
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

/// A [`Resolver`] that counts queries.
pub struct CountedResolver {
    inner: Arc<dyn Resolver>,
    metrics: Metrics,
}

impl CountedResolver {
    /// Counts the calls of `inner`.
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

    async fn query_https(
        &self,
        url: &Arc<str>,
        name: &DnsName,
        kind: RecordKind,
    ) -> Result<Answer, ResolveError> {
        let start = Instant::now();
        let result = self.inner.query_https(url, name, kind).await;
        self.metrics.dns_call(classify(&result), start.elapsed());
        result
    }

    fn system_servers(&self) -> Vec<SocketAddr> {
        self.inner.system_servers()
    }

    async fn addresses(&self, name: &DnsName, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        self.inner.addresses(name, port).await
    }
}

fn classify(result: &Result<Answer, ResolveError>) -> QueryResult {
    match result {
        Ok(answer) if answer.no_such_name => QueryResult::NoSuchName,
        Ok(answer) if answer.records.is_empty() && answer.alias.is_none() => QueryResult::Empty,
        Ok(_) => QueryResult::Found,
        Err(ResolveError::Failed { .. }) => QueryResult::Failed,
        Err(ResolveError::Unreachable { .. } | ResolveError::NoAddress { .. }) => {
            QueryResult::Unreachable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::IssuerKey,
        api::issuer::IssuerKind,
        runtime::metrics::{IssuerFacts, Limits},
    };

    /// Answers according to the path or name.
    struct Server;

    #[async_trait]
    impl Http for Server {
        async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
            match request.uri().path() {
                "/busy" => Ok(Response::builder().status(429).body(Bytes::new()).unwrap()),
                _ => Err(HttpError::TimedOut { host: "ca.example".to_owned(), seconds: 30 }),
            }
        }
    }

    #[async_trait]
    impl Resolver for Server {
        async fn query(
            &self,
            server: SocketAddr,
            name: &DnsName,
            _: RecordKind,
        ) -> Result<Answer, ResolveError> {
            match name.to_string().as_str() {
                "none.example.org" => Ok(Answer { no_such_name: true, ..Answer::default() }),
                "empty.example.org" => Ok(Answer::default()),
                _ => {
                    Err(ResolveError::Failed { server: server.into(), code: "SERVFAIL".to_owned() })
                }
            }
        }

        fn system_servers(&self) -> Vec<SocketAddr> {
            vec![SocketAddr::from(([192, 0, 2, 1], 53))]
        }

        async fn addresses(&self, _: &DnsName, _: u16) -> Result<Vec<SocketAddr>, ResolveError> {
            Ok(self.system_servers())
        }
    }

    #[tokio::test]
    async fn calls_are_counted_and_their_results_returned() {
        let metrics = Metrics::new(Limits::default()).unwrap();
        let facts = IssuerFacts {
            kind: IssuerKind::Acme,
            server: Some("ca.example".to_owned()),
            account: None,
        };
        metrics.set_issuer(&IssuerKey::Default("ca".to_owned()), &facts);
        let http = CountedHttp::new(Arc::new(Server), metrics.clone());
        let get = |url: &str| Request::get(url).body(Bytes::new()).unwrap();
        assert_eq!(http.send(get("https://ca.example/busy")).await.unwrap().status(), 429);
        assert!(http.send(get("https://ca.example/late")).await.is_err());
        let resolver = CountedResolver::new(Arc::new(Server), metrics.clone());
        let [server] = resolver.system_servers()[..] else { panic!("one server") };
        for name in ["none.example.org", "empty.example.org", "other.example.org"] {
            let _ = resolver.query(server, &name.parse().unwrap(), RecordKind::Txt).await;
        }
        let page = metrics.page().unwrap();
        for line in [
            r#"acme_requests_total{code="4xx",method="GET",server="ca.example"} 1"#,
            r#"acme_requests_total{code="error",method="GET",server="ca.example"} 1"#,
            r#"acme_request_seconds_count{server="ca.example"} 2"#,
            r#"dns_queries_total{result="no_such_name"} 1"#,
            r#"dns_queries_total{result="empty"} 1"#,
            r#"dns_queries_total{result="failed"} 1"#,
        ] {
            assert!(page.contains(line), "no {line} in {page}");
        }
    }
}
