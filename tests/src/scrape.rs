//! The HTTP endpoints of a manager: metrics and health.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// GETs a page of a server on this machine.
///
/// # Errors
/// No response within the deadline.
pub async fn page(port: u16, path: &str) -> Result<(StatusCode, String)> {
    page_as(port, path, None).await
}

/// GETs a page of a server on this machine, with a bearer token.
///
/// # Errors
/// No response within the deadline.
pub async fn page_as(port: u16, path: &str, token: Option<&str>) -> Result<(StatusCode, String)> {
    let answer = tokio::time::timeout(REQUEST_TIMEOUT, async {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let mut request = Request::get(format!("http://127.0.0.1:{port}{path}"));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::new())?;
        let response = client.request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        anyhow::Ok((status, String::from_utf8(body.to_vec())?))
    });
    answer.await.context("no answer in time").flatten().with_context(|| format!("GET {path}"))
}

/// The content of `/metrics` at one time.
#[derive(Clone, Debug, Default)]
pub struct Scrape(String);

impl Scrape {
    /// Reads `/metrics`.
    ///
    /// # Errors
    /// There was no response.
    pub async fn read(port: u16) -> Result<Self> {
        let (status, page) = page(port, "/metrics").await?;
        ensure!(status == StatusCode::OK, "/metrics says {status}");
        Ok(Self(page))
    }

    /// The sum of all samples of this name with at least these labels; `None` when there is none.
    #[must_use]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let samples = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (given, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let all = wanted.iter().all(|label| given.split(',').any(|one| one == label));
            if all { value.split(' ').next()?.parse::<f64>().ok() } else { None }
        });
        samples.reduce(|sum, value| sum + value)
    }

    /// The page as text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_with_the_requested_labels_are_added_up() {
        let page = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4\nab 9\nb 1.5\n";
        let scrape = Scrape(page.to_owned());
        assert_eq!(scrape.value("a", &[("x", "1")]), Some(7.0));
        assert_eq!(scrape.value("a", &[("y", "3")]), Some(4.0));
        assert_eq!(scrape.value("b", &[]), Some(1.5));
        assert_eq!(scrape.value("c", &[]), None);
    }
}
