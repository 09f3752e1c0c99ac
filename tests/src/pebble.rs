//! Pebble, Let's Encrypt's ACME server for tests, with real validation.
//!
//! It keeps its state in memory: after a restart it has other CA keys and no accounts, orders or
//! certificates. Its log contains the requests and the signed certificates.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use crate::{
    Look, eventually,
    http::Https,
    locate,
    processes::{Process, free_port},
    tls::Serving,
    x509::Leaf,
};

/// Options of a Pebble.
#[derive(Clone, Debug)]
pub struct PebbleOptions {
    /// Percentage of valid nonces that are refused.
    pub nonce_reject: u8,
    /// Percentage of valid authorizations that are reused for a new order.
    pub authz_reuse: u8,
    /// Upper bound of the random time until a challenge is validated, in seconds.
    pub validation: u8,
    /// The Retry-After of authorizations and orders in seconds; 0 omits the header.
    pub retry_after: u8,
    /// The address of the DNS server for validation; `None` accepts every challenge.
    pub dns: Option<u16>,
    /// The key identifier and the key, in URL-safe base64, of the required account binding.
    pub eab: Option<(String, String)>,
    /// Names of profiles and the lifetimes of their certificates in seconds; empty means one
    /// profile with 90 days. An order without a profile gets a random one.
    pub profiles: Vec<(&'static str, u64)>,
    /// Number of alternate chains.
    pub alternate_roots: u8,
}

impl Default for PebbleOptions {
    fn default() -> Self {
        Self {
            nonce_reject: 5,
            authz_reuse: 0,
            validation: 0,
            retry_after: 0,
            dns: None,
            eab: None,
            profiles: Vec::new(),
            alternate_roots: 0,
        }
    }
}

/// A running Pebble. It ends when dropped.
pub struct Pebble {
    process: Mutex<Option<Process>>,
    https: Https,
    serving: Serving,
    command: Mutex<Command>,
    logs: PathBuf,
    port: u16,
    management: u16,
}

/// A certificate that Pebble has signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The serial number in hexadecimal.
    pub serial: String,
    /// The DNS names, sorted.
    pub names: Vec<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "Certificate")]
    certificate: String,
    #[serde(rename = "Status")]
    status: String,
}

const START_DEADLINE: Duration = Duration::from_secs(60);

impl Pebble {
    /// Starts it, with its files in `data` and its log in `logs`.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(options: &PebbleOptions, data: &Path, logs: &Path) -> Result<Self> {
        let (port, management) = (free_port()?, free_port()?);
        let serving = Serving::create("pebble", data)?;
        let config = data.join(format!("pebble-{port}.json"));
        fs::write(&config, configuration(options, &serving, port, management)?)?;
        let mut command = Command::new(locate::binaries().await?.join("pebble"));
        command
            .arg("-config")
            .arg(&config)
            .env("PEBBLE_WFE_NONCEREJECT", options.nonce_reject.to_string())
            .env("PEBBLE_AUTHZREUSE", options.authz_reuse.to_string())
            .env("PEBBLE_ALTERNATE_ROOTS", options.alternate_roots.to_string());
        match options.validation {
            0 => command.env("PEBBLE_VA_NOSLEEP", "1"),
            seconds => command.env("PEBBLE_VA_SLEEPTIME", seconds.to_string()),
        };
        match options.dns {
            Some(dns) => command.args(["-dnsserver", &format!("127.0.0.1:{dns}")]),
            None => command.env("PEBBLE_VA_ALWAYS_VALID", "1"),
        };
        let pebble = Self {
            process: Mutex::new(None),
            https: Https::trusting(&serving.authority)?,
            serving,
            command: Mutex::new(command),
            logs: logs.to_owned(),
            port,
            management,
        };
        pebble.resume().await?;
        Ok(pebble)
    }

    /// The address of the ACME directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// The file with the CA of its TLS certificate, which differs from the CA of issued
    /// certificates.
    #[must_use]
    pub fn trust(&self) -> &Path {
        &self.serving.authority
    }

    /// Its TLS certificate, for a proxy before it.
    #[must_use]
    pub fn serving(&self) -> &Serving {
        &self.serving
    }

    /// A client that trusts its TLS certificate.
    #[must_use]
    pub fn https(&self) -> Https {
        self.https.clone()
    }

    /// Ends it. Its state is lost.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn stop(&self) -> Result<()> {
        if let Some(mut process) = self.process.lock().await.take() {
            process.kill()?;
        }
        Ok(())
    }

    /// Starts it again on the same port after [`Pebble::stop`], with an empty state and log.
    ///
    /// # Errors
    /// It does not start.
    pub async fn resume(&self) -> Result<()> {
        let log = self.log();
        if log.exists() {
            fs::rename(&log, log.with_extension("log.old"))?;
        }
        let mut command = self.command.lock().await;
        *self.process.lock().await = Some(Process::spawn(&self.name(), &mut command, &self.logs)?);
        drop(command);
        let url = self.directory();
        eventually(START_DEADLINE, "Pebble answers", || async {
            match self.https.get(&url).await {
                Ok((StatusCode::OK, _)) => Ok(Look::Done(())),
                Ok((status, _)) => Ok(Look::NotYet(status.to_string())),
                Err(error) => {
                    if let Some(process) = self.process.lock().await.as_mut() {
                        process.check()?;
                    }
                    Err(error)
                }
            }
        })
        .await
    }

    /// Number of ACME requests since its start, by method and resource. Readiness checks of the
    /// harness are requests for the directory.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn requests(&self) -> Result<BTreeMap<String, u64>> {
        let mut counts = BTreeMap::new();
        for line in fs::read_to_string(self.log())?.lines() {
            // `Pebble 2006/01/02 15:04:05 POST /order-plz -> calling handler()`
            if let Some(request) = line.strip_suffix(" -> calling handler()") {
                let words: Vec<&str> = request.rsplitn(3, ' ').collect();
                if let [path, method, _] = words[..] {
                    *counts.entry(format!("{method} {path}")).or_default() += 1;
                }
            }
        }
        counts.retain(|request, _| !MANAGEMENT.iter().any(|path| request.ends_with(path)));
        Ok(counts)
    }

    /// How many certificates it has signed since it started.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn signed_count(&self) -> Result<usize> {
        Ok(self.serials()?.len())
    }

    /// Sets the renewal information of a certificate; it may be invalid.
    ///
    /// # Errors
    /// It did not sign the certificate.
    pub async fn set_renewal_info(&self, certificate: &str, answer: &str) -> Result<()> {
        let url = format!("https://127.0.0.1:{}/set-renewal-info/", self.management);
        let body = json!({"Certificate": certificate, "ARIResponse": answer}).to_string();
        let status = self.https.post(&url, body.into_bytes()).await?;
        ensure!(status == StatusCode::OK, "Pebble says {status}");
        Ok(())
    }

    /// Number of requests for renewal information since its start.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn renewal_info_requests(&self) -> Result<u64> {
        let all = self.requests()?;
        Ok(all.iter().filter(|(it, _)| it.contains("renewalInfo")).map(|(_, count)| count).sum())
    }

    /// The certificates that it signed since its start, in this order.
    ///
    /// # Errors
    /// Its log cannot be read or its management interface does not answer.
    pub async fn signed(&self) -> Result<Vec<Signed>> {
        let mut signed = Vec::new();
        for serial in self.serials()? {
            let names = self.names(&serial).await.with_context(|| format!("serial {serial}"))?;
            signed.push(Signed { serial, names });
        }
        Ok(signed)
    }

    /// Number of signed certificates for each set of names.
    ///
    /// # Errors
    /// As [`Pebble::signed`].
    pub async fn signed_by_names(&self) -> Result<BTreeMap<Vec<String>, usize>> {
        let mut counts = BTreeMap::new();
        for signed in self.signed().await? {
            *counts.entry(signed.names).or_default() += 1;
        }
        Ok(counts)
    }

    /// The status of a certificate by its serial number: `Valid` or `Revoked`.
    ///
    /// # Errors
    /// It does not know it, or its management interface does not answer.
    pub async fn status(&self, serial: &str) -> Result<String> {
        Ok(self.certificate_status(serial).await?.status)
    }

    /// The root certificate in PEM: 0 is that of the default chain, others those of the alternate
    /// chains.
    ///
    /// # Errors
    /// Its management interface does not answer.
    pub async fn root(&self, number: u8) -> Result<Vec<u8>> {
        let url = format!("https://127.0.0.1:{}/roots/{number}", self.management);
        let (status, body) = self.https.get(&url).await?;
        ensure!(status == StatusCode::OK, "Pebble says {status}");
        Ok(body.to_vec())
    }

    async fn names(&self, serial: &str) -> Result<Vec<String>> {
        let status = self.certificate_status(serial).await?;
        let mut names = Leaf::parse(status.certificate.as_bytes())?.names;
        names.sort();
        Ok(names)
    }

    async fn certificate_status(&self, serial: &str) -> Result<Status> {
        let url = format!("https://127.0.0.1:{}/cert-status-by-serial/{serial}", self.management);
        let (status, body) = self.https.get(&url).await?;
        ensure!(status == StatusCode::OK, "Pebble says {status}");
        Ok(serde_json::from_slice(&body)?)
    }

    fn serials(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.log())?;
        let lines = log.lines().filter_map(|line| line.split_once("Issued certificate serial "));
        Ok(lines.filter_map(|(_, rest)| rest.split(' ').next().map(str::to_owned)).collect())
    }

    fn name(&self) -> String {
        format!("pebble-{}", self.port)
    }

    fn log(&self) -> PathBuf {
        self.logs.join(format!("{}.log", self.name()))
    }
}

/// Paths of the management interface, which are in the same log.
const MANAGEMENT: &[&str] = &[
    "/roots/",
    "/root-keys/",
    "/intermediates/",
    "/intermediate-keys/",
    "/cert-status-by-serial/",
    "/set-renewal-info/",
];

fn configuration(
    options: &PebbleOptions,
    serving: &Serving,
    port: u16,
    management: u16,
) -> Result<String> {
    // One profile: an order without a profile gets a random one.
    let only = vec![("default", 90 * 24 * 3600)];
    let profiles = if options.profiles.is_empty() { &only } else { &options.profiles };
    let profiles: BTreeMap<&str, _> = profiles
        .iter()
        .map(|(name, seconds)| {
            (*name, json!({"description": "For tests", "validityPeriod": seconds}))
        })
        .collect();
    let keys: BTreeMap<_, _> = options.eab.iter().map(|(id, key)| (id, key)).collect();
    Ok(serde_json::to_string_pretty(&json!({"pebble": {
        "listenAddress": format!("127.0.0.1:{port}"),
        "managementListenAddress": format!("127.0.0.1:{management}"),
        "certificate": serving.certificate,
        "privateKey": serving.key,
        "httpPort": free_port()?,
        "tlsPort": free_port()?,
        "keyAlgorithm": "ecdsa",
        "retryAfter": {"authz": options.retry_after, "order": options.retry_after},
        "profiles": profiles,
        "externalAccountBindingRequired": options.eab.is_some(),
        "externalAccountMACKeys": keys,
    }}))?)
}
