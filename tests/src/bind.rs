//! BIND for tests: an authoritative DNS server with wildcard synthesis and forwarding.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result};
use cert_lib::net::{RecordKind, Resolver as _, dns::Udp};

use crate::{
    Look, eventually, locate,
    processes::{Process, free_port, scratch},
    tls::Serving,
};

/// A running server. It ends when dropped.
pub struct Bind {
    port: u16,
    https: Option<(u16, Serving)>,
    _process: Process,
}

/// The type of a zone.
#[derive(Clone, Copy, Debug)]
pub enum Zone<'a> {
    /// Authoritative; the records are lines of a zone file (RFC 1035 section 5).
    Primary(&'a str),
    /// The same; takes unsigned updates (RFC 2136) of this machine.
    Updatable(&'a str),
    /// Transfers the zone from the server at this port of 127.0.0.1 at the start, and when it is
    /// notified (RFC 1996).
    Secondary(u16),
    /// Forwards to the server at this port of 127.0.0.1, without a cache.
    Forward(u16),
}

impl Bind {
    /// Starts it with `zones`.
    ///
    /// # Errors
    /// It cannot be built or does not start.
    pub async fn start(zones: &[(&str, Zone<'_>)], logs: &Path) -> Result<Self> {
        Self::launch(zones, logs, None).await
    }

    /// The same with DNS over HTTPS at `/dns-query`, see [`https`](Self::https).
    ///
    /// # Errors
    /// It cannot be built or does not start.
    pub async fn start_with_https(zones: &[(&str, Zone<'_>)], logs: &Path) -> Result<Self> {
        let serving = Serving::create("dns-over-https", &scratch()?)?;
        Self::launch(zones, logs, Some((free_port()?, serving))).await
    }

    async fn launch(
        zones: &[(&str, Zone<'_>)],
        logs: &Path,
        https: Option<(u16, Serving)>,
    ) -> Result<Self> {
        let (port, data) = (free_port()?, scratch()?);
        let (definitions, listener) = https.as_ref().map_or_else(Default::default, listen_https);
        let shown = data.display();
        let mut config = format!(
            "{definitions}options {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; \
             {listener}listen-on-v6 {{ none; }}; pid-file none; recursion yes; \
             dnssec-validation no; empty-zones-enable no; notify no; max-cache-ttl 0; \
             max-ncache-ttl 0; }};\ncontrols {{ }};\n"
        );
        for (name, zone) in zones {
            config += &zone.clause(name, &data)?;
        }
        let file = data.join("named.conf");
        fs::write(&file, config)?;
        let program = tokio::task::spawn_blocking(|| locate::tool("named")).await??;
        let mut command = Command::new(program);
        command.args(["-g", "-n", "1", "-c"]).arg(&file);
        let mut process = Process::spawn("named", &mut command, logs)?;
        let first = zones.iter().find(|(_, zone)| !matches!(zone, Zone::Forward(_)));
        let probe = first.map_or("test", |(name, _)| name).parse()?;
        let resolver = Udp::with_servers(vec![]);
        eventually(Duration::from_secs(20), "BIND answers", || {
            let running = process.check();
            let (resolver, probe) = (&resolver, &probe);
            async move {
                running?;
                let server = ([127, 0, 0, 1], port).into();
                Ok(match resolver.query(server, probe, RecordKind::Soa).await {
                    Ok(_) => Look::Done(()),
                    Err(error) => Look::NotYet(error.to_string()),
                })
            }
        })
        .await?;
        Ok(Self { port, https, _process: process })
    }

    /// The URL of its DNS over HTTPS, and the certificate of the CA that it trusts, PEM.
    ///
    /// # Errors
    /// It was started without.
    pub fn https(&self) -> Result<(String, String)> {
        let (port, serving) = self.https.as_ref().context("BIND was started without HTTPS")?;
        let authority = fs::read_to_string(&serving.authority)?;
        Ok((format!("https://localhost:{port}/dns-query"), authority))
    }

    /// Its port, UDP and TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Zone<'_> {
    /// Its part of the configuration. Writes its file to `data`.
    fn clause(&self, name: &str, data: &Path) -> Result<String> {
        let write = |records: &str| {
            let head = "$TTL 1\n@ SOA ns hostmaster 1 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n";
            fs::write(data.join(name), format!("{head}{records}\n"))
        };
        let body = match self {
            Self::Primary(records) => {
                write(records)?;
                format!("type primary; file \"{name}\";")
            }
            Self::Updatable(records) => {
                write(records)?;
                format!("type primary; file \"{name}\"; allow-update {{ 127.0.0.1; }};")
            }
            Self::Secondary(port) => format!(
                "type secondary; file \"{name}\"; primaries port {port} {{ 127.0.0.1; }}; \
                 min-refresh-time 3600; allow-notify {{ 127.0.0.1; }};"
            ),
            Self::Forward(port) => {
                format!("type forward; forward only; forwarders {{ 127.0.0.1 port {port}; }};")
            }
        };
        Ok(format!("zone \"{name}\" {{ {body} }};\n"))
    }
}

/// The definitions and the option for DNS over HTTPS.
fn listen_https((port, serving): &(u16, Serving)) -> (String, String) {
    let (key, certificate) = (serving.key.display(), serving.certificate.display());
    let definitions = format!(
        "tls serving {{ key-file \"{key}\"; cert-file \"{certificate}\"; }};\n\
         http doh {{ endpoints {{ \"/dns-query\"; }}; }};\n"
    );
    (definitions, format!("listen-on port {port} tls serving http doh {{ 127.0.0.1; }}; "))
}
