//! Pebble's own DNS server for tests, for comparisons with other ACME clients.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};

use crate::{
    Look, eventually, locate,
    processes::{Process, free_port},
};

/// A running DNS server. It ends when dropped.
pub struct ChallTestSrv {
    dns: u16,
    management: u16,
    _process: Process,
}

impl ChallTestSrv {
    /// Starts it with an empty zone.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(logs: &Path) -> Result<Self> {
        let (dns, management) = (free_port()?, free_port()?);
        let mut command = Command::new(locate::binaries().await?.join("pebble-challtestsrv"));
        command
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .args(["-management", &format!("127.0.0.1:{management}")])
            .args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]);
        let process = Process::spawn("pebble-challtestsrv", &mut command, logs)?;
        let server = Self { dns, management, _process: process };
        eventually(Duration::from_secs(10), "pebble-challtestsrv answers", || async {
            server.clear_txt("ready.invalid.").await.map(Look::Done)
        })
        .await?;
        Ok(server)
    }

    /// The port of its DNS server, UDP and TCP.
    #[must_use]
    pub fn dns(&self) -> u16 {
        self.dns
    }

    /// The URL of its management interface.
    #[must_use]
    pub fn api(&self) -> String {
        format!("http://127.0.0.1:{}", self.management)
    }

    /// Adds a TXT value to a name that ends with a dot.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn set_txt(&self, name: &str, value: &str) -> Result<()> {
        self.post("set-txt", &json!({"host": name, "value": value})).await
    }

    /// Removes all TXT values of a name that ends with a dot.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn clear_txt(&self, name: &str) -> Result<()> {
        self.post("clear-txt", &json!({"host": name})).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<()> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let url = format!("http://127.0.0.1:{}/{path}", self.management);
        let request = Request::post(url).body(Full::from(serde_json::to_vec(body)?))?;
        let status = client.request(request).await?.status();
        ensure!(status.is_success(), "pebble-challtestsrv says {status} to {path}");
        Ok(())
    }
}
