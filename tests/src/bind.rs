//! BIND for tests: an authoritative DNS server with wildcard synthesis and forwarding.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;
use cert_lib::net::{RecordKind, Resolver as _, dns::Udp};

use crate::{
    Look, eventually, locate,
    processes::{Process, free_port, scratch},
};

/// A running server. It ends when dropped.
pub struct Bind {
    port: u16,
    _process: Process,
}

/// The type of a zone.
#[derive(Clone, Copy, Debug)]
pub enum Zone<'a> {
    /// Authoritative; the records are lines of a zone file (RFC 1035 section 5).
    Primary(&'a str),
    /// Forwards to the server at this port of 127.0.0.1, without a cache.
    Forward(u16),
}

impl Bind {
    /// Starts it with `zones`.
    ///
    /// # Errors
    /// It cannot be built or does not start.
    pub async fn start(zones: &[(&str, Zone<'_>)], logs: &Path) -> Result<Self> {
        let (port, data) = (free_port()?, scratch()?);
        let shown = data.display();
        let mut config = format!(
            "options {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; \
             listen-on-v6 {{ none; }}; pid-file none; recursion yes; dnssec-validation no; \
             empty-zones-enable no; notify no; max-cache-ttl 0; max-ncache-ttl 0; }};\n\
             controls {{ }};\n"
        );
        for (name, zone) in zones {
            config += &match zone {
                Zone::Primary(records) => {
                    let head =
                        "$TTL 1\n@ SOA ns hostmaster 1 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n";
                    fs::write(data.join(name), format!("{head}{records}\n"))?;
                    format!("zone \"{name}\" {{ type primary; file \"{name}\"; }};\n")
                }
                Zone::Forward(port) => format!(
                    "zone \"{name}\" {{ type forward; forward only; \
                     forwarders {{ 127.0.0.1 port {port}; }}; }};\n"
                ),
            };
        }
        let file = data.join("named.conf");
        fs::write(&file, config)?;
        let program = tokio::task::spawn_blocking(|| locate::tool("named")).await??;
        let mut command = Command::new(program);
        command.args(["-g", "-n", "1", "-c"]).arg(&file);
        let mut process = Process::spawn("named", &mut command, logs)?;
        let first = zones.iter().find(|(_, zone)| matches!(zone, Zone::Primary(_)));
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
        Ok(Self { port, _process: process })
    }

    /// Its port, UDP and TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
