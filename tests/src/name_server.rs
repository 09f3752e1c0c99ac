//! What the authoritative DNS servers of tests share: the process, keys (TSIG), who may update a
//! zone, and [`transfer`], the records of a zone.

pub mod transfer;

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use cert_lib::{
    model::name::DnsName,
    net::{RecordKind, Resolver as _, dns::Udp},
    solve::rfc2136::TsigAlgorithm,
};
use tokio::net::UdpSocket;

use crate::{Look, eventually, locate, processes::Process};

/// A key that a server knows.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it signs.
    pub algorithm: TsigAlgorithm,
    /// The secret in base64.
    pub secret: &'a str,
}

impl Key<'_> {
    /// The algorithm as servers write it, for example `hmac-sha256`.
    #[must_use]
    pub fn algorithm_name(&self) -> String {
        self.algorithm.as_str().to_lowercase().replace("hmac", "hmac-")
    }
}

/// Who may update a zone (RFC 2136).
#[derive(Clone, Copy, Debug)]
pub enum Updates<'a> {
    /// No client.
    None,
    /// The owner of each of these keys.
    By(&'a [&'a str]),
    /// Everyone on this machine.
    Unsigned,
}

/// A zone that begins with an SOA record, an NS record and an address.
#[must_use]
pub fn zone_file(records: &str) -> String {
    format!("$TTL 1\n@ SOA ns hostmaster 1 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n{records}\n")
}

/// A DNS server on 127.0.0.1. Killed when dropped.
#[derive(Debug)]
pub struct NameServer {
    tool: &'static str,
    program: PathBuf,
    arguments: Vec<String>,
    port: u16,
    /// A name that it answers for.
    probe: DnsName,
    logs: PathBuf,
    process: Process,
}

impl NameServer {
    /// Starts a tool of `controlplane/tool` and waits until it answers for `probe` at `port`.
    ///
    /// # Errors
    /// It cannot be installed or does not start.
    pub async fn start(
        tool: &'static str,
        arguments: Vec<String>,
        port: u16,
        probe: &str,
        logs: &Path,
    ) -> Result<Self> {
        let program = tokio::task::spawn_blocking(|| locate::tool(tool)).await??;
        let process = Process::spawn(tool, Command::new(&program).args(&arguments), logs)?;
        let (probe, logs) = (probe.parse()?, logs.to_owned());
        let mut server = Self { tool, program, arguments, port, probe, logs, process };
        server.answers().await?;
        Ok(server)
    }

    /// Its port, UDP and TCP.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it; its zones stay.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.stop(Duration::from_secs(10)).await?;
        Ok(())
    }

    /// Starts it again after [`stop`](Self::stop), at the same port.
    ///
    /// # Errors
    /// It does not start.
    pub async fn resume(&mut self) -> Result<()> {
        let mut command = Command::new(&self.program);
        self.process = Process::spawn(self.tool, command.args(&self.arguments), &self.logs)?;
        self.answers().await
    }

    /// Notifies it that `zone` has changed (RFC 1996): a secondary server then copies the zone.
    ///
    /// # Errors
    /// It does not run.
    pub async fn notify(&self, zone: &str) -> Result<()> {
        let mut message = vec![0, 1, 0x24, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in zone.split('.').chain([""]) {
            message.push(u8::try_from(label.len())?);
            message.extend(label.as_bytes());
        }
        message.extend([0, 6, 0, 1]);
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.send_to(&message, ("127.0.0.1", self.port)).await?;
        Ok(())
    }

    async fn answers(&mut self) -> Result<()> {
        let resolver = Udp::with_servers(vec![]);
        let what = format!("{} answers", self.tool);
        eventually(Duration::from_secs(20), &what, || {
            let running = self.process.check();
            let (resolver, probe, port) = (&resolver, &self.probe, self.port);
            async move {
                running?;
                let server = ([127, 0, 0, 1], port).into();
                Ok(match resolver.query(server, probe, RecordKind::Soa).await {
                    Ok(_) => Look::Done(()),
                    Err(error) => Look::NotYet(error.to_string()),
                })
            }
        })
        .await
    }
}
