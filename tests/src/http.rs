//! HTTPS to servers of one CA: a small client for Pebble's management interface, for readiness
//! checks and for instant-acme. Also the building blocks of other clients.

use std::{future::Future, path::Path, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::USER_AGENT};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A client for the servers of one CA.
#[derive(Clone)]
pub struct Https {
    plain: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    acme: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
}

impl Https {
    /// A client that trusts the CA in this PEM file and no other.
    ///
    /// # Errors
    /// The file holds no certificate.
    pub fn trusting(authority: &Path) -> Result<Self> {
        let connector = connector(authority)?;
        let builder = Client::builder(TokioExecutor::new());
        Ok(Self { plain: builder.build(connector.clone()), acme: builder.build(connector) })
    }

    /// GETs a page.
    ///
    /// # Errors
    /// No response within the deadline.
    pub async fn get(&self, url: &str) -> Result<(StatusCode, Bytes)> {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, async {
            // RFC 8555 section 6.1 requires a User-Agent, and Pebble checks it.
            let request = Request::get(url).header(USER_AGENT, "tests").body(Empty::new())?;
            let response: Response<Incoming> = self.plain.request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        });
        answer.await.context("no answer in time").flatten().with_context(|| format!("GET {url}"))
    }
}

impl Https {
    /// POSTs an unsigned body.
    ///
    /// # Errors
    /// No response within the deadline.
    pub async fn post(&self, url: &str, body: Vec<u8>) -> Result<StatusCode> {
        let request = Request::post(url).header(USER_AGENT, "tests").body(body.into())?;
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.acme.request(request));
        let response = answer.await.context("no answer in time")?;
        Ok(response.with_context(|| format!("POST {url}"))?.status())
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let response = self.acme.request(request);
        Box::pin(async move {
            match response.await {
                Ok(response) => Ok(BytesResponse::from(response)),
                Err(error) => Err(instant_acme::Error::Other(Box::new(error))),
            }
        })
    }
}

fn connector(authority: &Path) -> Result<HttpsConnector<HttpConnector>> {
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(trusting(authority)?)
        .https_only()
        .enable_http1()
        .enable_http2()
        .wrap_connector(tcp()))
}

/// Trusts the CA in this PEM file and no other.
pub(crate) fn trusting(authority: &Path) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    Ok(ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Also connects for URLs that are not `http`, and sends small packets at once.
pub(crate) fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp
}
