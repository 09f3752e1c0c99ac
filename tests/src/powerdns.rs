//! PowerDNS for tests: an authoritative DNS server with an SQLite database and the HTTP API. It has
//! no caches, so that each answer shows the database.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cert_lib::net::{Record, RecordKind, ResolveError, Resolver as _, dns::Udp};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    Look, eventually, locate,
    processes::{Process, free_port, output, scratch, spawn_locked},
};

/// A running server. It ends when dropped.
pub struct PowerDns {
    /// Contains pdns.conf.
    directory: PathBuf,
    ports: Ports,
    key: String,
    logs: PathBuf,
    process: Option<Process>,
}

/// The ports of a server on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// HTTP
    pub api: u16,
    /// UDP and TCP
    pub dns: u16,
}

/// The type of a zone.
#[derive(Clone, Copy, Debug)]
pub enum Zone {
    /// Its primary server is this one.
    Primary,
    /// A copy of the zone of another server, which does not exist.
    Secondary,
}

const START: Duration = Duration::from_secs(20);
const STOP: Duration = Duration::from_secs(10);

impl PowerDns {
    /// Starts it with an empty database and DNS updates (RFC 2136) enabled. `settings` are more
    /// lines of its configuration, which override others.
    ///
    /// # Errors
    /// It cannot be installed or does not start.
    pub async fn start(settings: &str, logs: &Path) -> Result<Self> {
        let (directory, ports) = (scratch()?, Ports { api: free_port()?, dns: free_port()? });
        let (shown, key) = (directory.display(), "key-of-the-tests-0123456789");
        let config = format!(
            "launch=gsqlite3\ngsqlite3-database={shown}/pdns.sqlite3\nsocket-dir={shown}\n\
             webserver=yes\nwebserver-allow-from=127.0.0.1\napi=yes\napi-key={key}\n\
             dnsupdate=yes\nallow-dnsupdate-from=127.0.0.0/8\n\
             daemon=no\nguardian=no\ndisable-syslog=yes\n{settings}\n"
        );
        let schema = fs::read_to_string(Self::programs().await?.join("schema.sql"))?;
        sql(&directory.join("pdns.sqlite3"), &schema)?;
        fs::write(directory.join("pdns.conf"), config)?;
        Self::with_config(&directory, ports, key, logs).await
    }

    /// Starts it with the `pdns.conf` in `directory`, to which it appends the `ports`, the path of
    /// its modules, and settings that turn caches off. `key` is the API key in that file.
    ///
    /// # Errors
    /// It cannot be installed or does not start.
    pub async fn with_config(
        directory: &Path,
        ports: Ports,
        key: &str,
        logs: &Path,
    ) -> Result<Self> {
        let file = directory.join("pdns.conf");
        let (modules, Ports { api, dns }) = (Self::programs().await?.join("modules"), ports);
        let config = fs::read_to_string(&file)?;
        let added = format!(
            "module-dir={}\nlocal-address=127.0.0.1\nlocal-port={dns}\n\
             webserver-address=127.0.0.1\nwebserver-port={api}\n\
             cache-ttl=0\nnegquery-cache-ttl=0\nquery-cache-ttl=0\nzone-cache-refresh-interval=0\n\
             security-poll-suffix=\n",
            modules.display()
        );
        fs::write(&file, format!("{config}\n{added}"))?;
        let (directory, logs, key) = (directory.to_owned(), logs.to_owned(), key.to_owned());
        let mut server = Self { directory, ports, key, logs, process: None };
        server.run().await?;
        Ok(server)
    }

    /// The directory with `pdns_server`, `pdnsutil`, `pdns_control`, `modules` and `schema.sql`.
    ///
    /// # Errors
    /// It cannot be installed.
    pub async fn programs() -> Result<PathBuf> {
        tokio::task::spawn_blocking(|| locate::tool("powerdns")).await?
    }

    /// Starts it again after [`PowerDns::stop`].
    ///
    /// # Errors
    /// It does not start.
    pub async fn run(&mut self) -> Result<()> {
        let mut command = Command::new(Self::programs().await?.join("pdns_server"));
        command.arg(format!("--config-dir={}", self.directory.display()));
        let mut process = Process::spawn("pdns_server", &mut command, &self.logs)?;
        let (dns, api) = (self.dns(), SocketAddr::from(([127, 0, 0, 1], self.ports.api)));
        eventually(START, "PowerDNS answers", || {
            let running = process.check();
            async move {
                running?;
                TcpStream::connect(api).await?;
                let nowhere = "nowhere.test".parse()?;
                let resolver = Udp::with_servers(vec![]);
                match resolver.query(dns, &nowhere, RecordKind::Soa).await {
                    // It refuses names outside of its zones.
                    Ok(_) | Err(ResolveError::Failed { .. }) => Ok(Look::Done(())),
                    Err(error) => Ok(Look::NotYet(error.to_string())),
                }
            }
        })
        .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Ends it with SIGTERM. The database stays.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(STOP).await?;
        }
        Ok(())
    }

    /// Its process.
    ///
    /// # Errors
    /// It is stopped.
    pub fn process(&self) -> Result<&Process> {
        self.process.as_ref().context("PowerDNS is stopped")
    }

    /// The base URL of its API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.api)
    }

    /// The API key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its DNS address, UDP and TCP.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.dns).into()
    }

    /// Creates a zone with SOA and NS, whose serial grows with each change.
    ///
    /// # Errors
    /// The server refuses it.
    pub async fn create_zone(&self, name: &str, zone: Zone) -> Result<()> {
        let body = match zone {
            Zone::Primary => json!({
                "name": format!("{name}."), "kind": "Primary", "soa_edit_api": "INCREASE",
                "nameservers": [format!("ns.{name}.")],
            }),
            Zone::Secondary => json!({
                "name": format!("{name}."), "kind": "Secondary", "masters": ["127.0.0.1:1"],
            }),
        };
        self.done(Method::POST, "/zones", &body).await
    }

    /// Lets updates (RFC 2136) that are signed with a TSIG key change a zone. `algorithm` is
    /// `hmac-sha256`, for example, `secret` is in Base64.
    ///
    /// # Errors
    /// The server refuses the key.
    pub async fn allow_updates(
        &self,
        zone: &str,
        key: &str,
        algorithm: &str,
        secret: &str,
    ) -> Result<()> {
        self.pdnsutil(&["import-tsig-key", key, algorithm, secret]).await?;
        self.pdnsutil(&["set-meta", zone, "TSIG-ALLOW-DNSUPDATE", key]).await
    }

    /// Runs `pdnsutil` on its database.
    ///
    /// # Errors
    /// It fails.
    pub async fn pdnsutil(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(Self::programs().await?.join("pdnsutil"));
        command.arg(format!("--config-dir={}", self.directory.display())).args(arguments);
        let done = output(&mut command)?;
        ensure!(done.status.success(), "pdnsutil {arguments:?} fails with {}", done.status);
        Ok(())
    }

    /// Replaces the TXT records of a name by contents as in a zone file, and whether each is
    /// disabled.
    ///
    /// # Errors
    /// The server refuses them.
    pub async fn put(
        &self,
        zone: &str,
        name: &str,
        ttl: u32,
        records: &[(&str, bool)],
    ) -> Result<()> {
        let record =
            |(content, disabled): &(&str, bool)| json!({"content": content, "disabled": disabled});
        let records: Vec<Value> = records.iter().map(record).collect();
        let set = json!({
            "name": format!("{name}."), "type": "TXT", "ttl": ttl, "changetype": "REPLACE",
            "records": records, "comments": [{"content": "by hand", "account": "admin"}],
        });
        let path = format!("/zones/{zone}.");
        self.done(Method::PATCH, &path, &json!({"rrsets": [set]})).await
    }

    /// All records of a zone as sorted lines: name, TTL, type, content; with `disabled` and comments
    /// where there are some. Without the SOA record, whose serial changes.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn records(&self, zone: &str) -> Result<Vec<String>> {
        let (status, zone) =
            self.request(Method::GET, &format!("/zones/{zone}."), &Value::Null).await?;
        ensure!(status.is_success(), "PowerDNS says {status}: {zone}");
        let mut lines = Vec::new();
        for set in zone["rrsets"].as_array().context("no record sets")? {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let start = format!("{} {} {}", text(&set["name"]), set["ttl"], text(&set["type"]));
            for record in set["records"].as_array().into_iter().flatten() {
                let disabled = if record["disabled"] == true { " (disabled)" } else { "" };
                lines.push(format!("{start} {}{disabled}", text(&record["content"])));
            }
            for comment in set["comments"].as_array().into_iter().flatten() {
                lines.push(format!("{start} ; {}", text(&comment["content"])));
            }
        }
        lines.retain(|line| line.split(' ').nth(2) != Some("SOA"));
        lines.sort();
        Ok(lines)
    }

    /// The TXT values that the DNS server answers, sorted.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>> {
        let resolver = Udp::with_servers(vec![]);
        let answer = resolver.query(self.dns(), &name.parse()?, RecordKind::Txt).await?;
        let text = |record| match record {
            Record::Text(text) => Some(text),
            Record::Address(_) | Record::NameServer(_) => None,
        };
        let mut values: Vec<String> = answer.records.into_iter().filter_map(text).collect();
        values.sort();
        Ok(values)
    }

    /// Sends a request to `/api/v1/servers/localhost` and `path`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<(StatusCode, Value)> {
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1/servers/localhost{path}", self.url()))
            .header("x-api-key", &self.key)
            .body(Full::from(body))?;
        let (head, body) = client.request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        let text = || Value::from(String::from_utf8_lossy(&body).into_owned());
        Ok((head.status, serde_json::from_slice(&body).unwrap_or_else(|_| text())))
    }

    async fn done(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        let (status, body) = self.request(method, path, body).await?;
        ensure!(status.is_success(), "PowerDNS says {status} to {path}: {body}");
        Ok(())
    }
}

/// Runs statements on an SQLite database, which is created if it is missing.
///
/// # Errors
/// A statement fails.
pub fn sql(database: &Path, statements: &str) -> Result<()> {
    use std::io::Write as _;
    let mut command = Command::new(locate::tool("sqlite3")?);
    let mut child = spawn_locked(command.arg("-bail").arg(database).stdin(Stdio::piped()))?;
    child.stdin.take().context("no input")?.write_all(statements.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "sqlite3 fails with {status}");
    Ok(())
}
