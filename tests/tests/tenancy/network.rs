//! The connections that a tenant can cause, and unauthenticated clients of the DNS responder.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use cert_controller_manager::access::Cluster;
use cert_lib::{
    model::name::DnsName,
    net::{RecordKind, Resolver as _, dns::Udp},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tests::{
    Look, eventually,
    fleet::{
        Fleet,
        options::{FleetOptions, Layout},
    },
    health_watch::{Bounds, HealthWatch},
    namespace::Namespace,
    objects::acme_issuer,
    processes::free_port,
    run,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::*;

const SECRET: &str = "a secret of the inside";

/// A server on this machine with one response for all requests, which counts connections.
struct InternalServer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl InternalServer {
    async fn start(address: Ipv4Addr, answer: String) -> Result<Self> {
        let listener = TcpListener::bind((address, 0)).await?;
        let address = listener.local_addr()?;
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Ok(Self { address, connections })
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn http(status: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
}

fn tenants_issuer(name: &str, server: &str) -> Result<Value> {
    let mut issuer = acme_issuer(name, server)?;
    issuer["metadata"]["namespace"] = json!("tenant");
    issuer["spec"]["acme"]["privateKeySecretRef"] = json!({"name": name, "namespace": "tenant"});
    Ok(issuer)
}

#[test]
fn the_issuer_of_a_tenant_only_reaches_public_addresses_and_shows_no_response() {
    run(async {
        let fleet = Fleet::with_issuer(FleetOptions {
            // One address of this machine is permitted like a public one.
            arguments: arguments(&[
                "--allow-target-issuers",
                "--allowed-private-ranges=127.0.0.2/32",
            ]),
            http: true,
            ..FleetOptions::least_rights(Layout::TWO)
        })
        .await?;
        let health = HealthWatch::watch(&fleet, 0).await?;
        let target = fleet.client(Cluster::Target);
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        Namespace::in_fleet(&fleet, "tenant").await?;
        let hidden = InternalServer::start(Ipv4Addr::LOCALHOST, http("200 OK", "", SECRET)).await?;
        let port = hidden.address.port();

        let spellings = [
            format!("http://127.0.0.1:{port}/internal"),
            format!("https://127.0.0.1:{port}/internal"),
            format!("https://localhost:{port}/internal"),
            format!("https://[::ffff:127.0.0.1]:{port}/internal"),
            format!("https://0.0.0.0:{port}/internal"),
            "https://10.0.0.1/internal".to_owned(),
            "https://169.254.169.254/latest".to_owned(),
        ];
        for (number, server) in spellings.iter().enumerate() {
            let issuer = tenants_issuer(&format!("spelt-{number}"), server)?;
            let why = until_issuer(&target, &issuer, "Error").await?;
            ensure!(why.contains("it has no public address"), "{server}: {why}");
        }

        // A permitted server cannot show responses that are not ACME's, and cannot redirect
        // elsewhere.
        let open = Ipv4Addr::new(127, 0, 0, 2);
        let elsewhere = format!("location: http://127.0.0.1:{port}/internal\r\n");
        let problem = json!({"type": "about:blank", "detail": SECRET}).to_string();
        for (name, answer, want) in [
            ("text", http("200 OK", "", SECRET), "it is no JSON"),
            ("json", http("200 OK", "", &json!(SECRET).to_string()), "not what RFC 8555 describes"),
            ("refusal", http("403 Forbidden", "", SECRET), "no ACME problem document (HTTP 403)"),
            ("problem", http("403 Forbidden", "", &problem), "no ACME problem document (HTTP 403)"),
            ("moved", http("301 Moved", &elsewhere, SECRET), "it has no public address"),
        ] {
            let server = InternalServer::start(open, answer).await?;
            let issuer = tenants_issuer(name, &format!("http://{}/dir", server.address))?;
            let why = until_issuer(&target, &issuer, "Error").await?;
            ensure!(why.contains(want) && !why.contains(SECRET), "{name}: {why}");
            ensure!(server.connections() > 0, "{name} was not asked");
        }
        ensure!(hidden.connections() == 0, "{} connections", hidden.connections());

        victim.simple("web").await?;
        victim.until("web", "Ready", SOON).await?;
        let bounds = Bounds {
            memory: 40 << 20,
            cpu: Duration::from_secs(20),
            silence: Duration::from_secs(3),
        };
        health.check("issuers that point inside", bounds).await?;
        nothing_forbidden(&fleet)
    })
    .unwrap();
}

/// Asks for the zone's SOA over TCP, from the address 127.0.0.2.
async fn ask_over_tcp(server: SocketAddr) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, 2), 0).into())?;
    let mut stream = socket.connect(server).await?;
    // my-company.test, SOA, IN
    let mut question = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["my-company", "test", ""] {
        question.push(u8::try_from(label.len())?);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 6, 0, 1]);
    stream.write_u16(u16::try_from(question.len())?).await?;
    stream.write_all(&question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    ensure!(answer.get(7).is_some_and(|answers| *answers == 1), "{answer:?}");
    Ok(())
}

async fn open_files(fleet: &Fleet) -> Result<f64> {
    fleet.metrics(0).await?.value("process_open_fds", &[]).context("no process_open_fds")
}

#[test]
fn the_responder_serves_others_during_six_thousand_connections() {
    const CONNECTIONS: usize = 6_000;
    run(async {
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
        let port = free_port()?;
        let listen = format!("--answer-dns=127.0.0.1:{port}");
        let fleet = Fleet::with_issuer(FleetOptions {
            arguments: arguments(&[&listen, "--answer-zone=my-company.test"]),
            http: true,
            ..FleetOptions::default()
        })
        .await?;
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let victim = Namespace::in_fleet(&fleet, "victim").await?;
        victim.simple("before").await?;
        victim.until("before", "Ready", SOON).await?;
        let health = HealthWatch::watch(&fleet, 0).await?;

        let mut held = Vec::with_capacity(CONNECTIONS);
        while held.len() < CONNECTIONS {
            let mut stream = TcpStream::connect(server).await?;
            // The responder may have closed it already.
            let _ = stream.write_all(&[0xff, 0xff, 0, 0]).await;
            held.push(stream);
        }
        let asked = tokio::time::timeout(SOON, ask_over_tcp(server)).await;
        asked.context("no answer over TCP")??;
        let name: DnsName = "my-company.test".parse()?;
        let answer = Udp::with_servers(vec![]).query(server, &name, RecordKind::Soa).await?;
        ensure!(answer.authoritative, "{answer:?}");
        // The process can still open files: it serves and issues.
        victim.simple("meanwhile").await?;
        victim.until("meanwhile", "Ready", SOON).await?;
        let open = open_files(&fleet).await?;
        ensure!(open < 600.0, "the manager has {open} files open");

        let bounds = Bounds {
            memory: 30 << 20,
            cpu: Duration::from_secs(20),
            silence: Duration::from_secs(3),
        };
        health.check("6,000 connections to the responder", bounds).await?;
        drop(held);
        eventually(SOON, "the responder closes what is over", || async {
            let open = open_files(&fleet).await?;
            Ok(if open < 100.0 { Look::Done(()) } else { Look::NotYet(format!("{open} files")) })
        })
        .await
    })
    .unwrap();
}
