//! Load for the stand-alone DNS responder: dnsperf, and datagrams that are no DNS messages.
//!
//! If the cluster has no definition of DNSEntry, the responder installs its own.

use std::{
    fs,
    net::{SocketAddr, UdpSocket as StdSocket},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use tokio::{net::UdpSocket, sync::Mutex, time::timeout};

use crate::{
    Look,
    controlplane::ControlPlane,
    eventually, locate,
    manager::{Manager, Usage},
    objects::{apply, is_established},
    processes::{free_port, output},
    scrape,
};

/// The zone of the responder.
pub const ZONE: &str = "acme.bench.test";
/// The definition that it needs.
pub const DEFINITION: &str = "dnsentries.dns.gardener.cloud";
const SOON: Duration = Duration::from_secs(60);
/// Datagrams between two answered queries: fewer than the kernel buffers for a socket.
const WINDOW: usize = 64;
/// One of so many queries may be lost.
const MAX_LOSS: u64 = 10_000;

/// A stand-alone responder with published entries. It ends when dropped.
pub struct Responder {
    manager: Mutex<Manager>,
    address: SocketAddr,
    http: u16,
    entries: usize,
    control_plane: ControlPlane,
}

/// The effect of mutated datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Datagrams with an answer.
    pub answered: usize,
    /// The largest answer in relation to its query.
    pub amplification: f64,
    /// Growth of the memory of the responder, in bytes.
    pub growth: u64,
}

impl Responder {
    /// Starts it, and waits until it has published `entries` entries.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(entries: usize) -> Result<Self> {
        Self::start_on(ControlPlane::start().await?, entries).await
    }

    /// The same on a control plane that may have a definition.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start_on(control_plane: ControlPlane, entries: usize) -> Result<Self> {
        let (port, http) = (free_port()?, free_port()?);
        let kubeconfig = control_plane.kubeconfig("manager")?;
        let arguments = [format!("--server-port-http={http}")];
        let logs = control_plane.logs();
        let manager = Manager::answer_with(&kubeconfig, port, ZONE, &arguments, logs)?;
        let client = control_plane.client();
        eventually(SOON, "the responder has installed its definition", || async {
            // An error is the absence of the definition.
            let found = is_established(&client, DEFINITION).await;
            Ok(found.unwrap_or_else(|error| Look::NotYet(format!("{error:#}"))))
        })
        .await?;
        for number in 0..entries {
            let entry = json!({
                "apiVersion": "dns.gardener.cloud/v1alpha1", "kind": "DNSEntry",
                "metadata": {
                    "name": format!("e{number}"),
                    "annotations": {"cert.gardener.cloud/acme-dns-challenge": "true"},
                },
                "spec": {
                    "dnsName": format!("_acme-challenge.e{number}.{ZONE}"),
                    "text": [format!("{number:0>43}")], "ttl": 120,
                },
            });
            apply(&client, "default", &entry).await?;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let manager = Mutex::new(manager);
        let responder = Self { manager, address, http, entries, control_plane };
        responder.until_published().await?;
        Ok(responder)
    }

    async fn until_published(&self) -> Result<()> {
        eventually(SOON, "all entries are published", || async {
            self.manager.lock().await.check()?;
            let mut missing = 0;
            for number in 0..self.entries {
                let answer = self.ask(&query(&challenge(number), TXT, Some(1232))).await?;
                missing += usize::from(answer.is_none_or(|answer| answers(&answer) != 1));
            }
            Ok(match missing {
                0 => Look::Done(()),
                _ => Look::NotYet(format!("{missing} entries are missing")),
            })
        })
        .await
        .with_context(|| format!("see {}", self.control_plane.logs().display()))
    }

    /// Runs it on one processor.
    ///
    /// # Errors
    /// `taskset` is missing.
    pub fn pin(&self, processor: usize) -> Result<()> {
        self.manager.try_lock()?.pin(processor)
    }

    /// Sends queries with dnsperf on the second processor for some seconds: existing names, absent names,
    /// and the apex. UDP may lose a few of a million at full load.
    ///
    /// # Errors
    /// dnsperf is missing, or more than one of 10,000 queries is lost.
    pub fn queries_per_second(&self, seconds: u32) -> Result<f64> {
        let dnsperf = locate::tool("dnsperf")?;
        let mut lines = String::new();
        for number in 0..self.entries {
            let (name, absent) = (challenge(number), format!("_acme-challenge.x{number}.{ZONE}"));
            lines.push_str(&format!("{name} TXT\n{name} A\n{absent} TXT\n{ZONE} SOA\n"));
        }
        let file = self.control_plane.data().join("queries");
        fs::write(&file, lines)?;
        let mut command = Command::new("taskset");
        command.args(["-c", "1"]).arg(dnsperf).args(["-s", "127.0.0.1"]);
        command.args(["-p", &self.address.port().to_string(), "-l", &seconds.to_string()]);
        command.arg("-d").arg(&file).args(["-e", "-Q", "1000000", "-q", "200", "-c", "4"]);
        let output = output(&mut command)?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "dnsperf: {text}");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()).map(str::to_owned)
        };
        let count = |name: &str| -> Result<u64> {
            Ok(field(name).with_context(|| format!("dnsperf reports no {name}"))?.parse()?)
        };
        let (sent, lost) = (count("Queries sent:")?, count("Queries lost:")?);
        ensure!(lost <= sent / MAX_LOSS, "{lost} queries were lost: {text}");
        Ok(field("Queries per second:").context("dnsperf reports no rate")?.parse()?)
    }

    /// The largest relation of an answer to its query, for all types at a name with one value, at the apex,
    /// and at an absent name.
    ///
    /// # Errors
    /// A query is not answered.
    pub async fn amplification(&self) -> Result<f64> {
        let mut largest = 0.0_f64;
        for name in [challenge(0), ZONE.to_owned(), format!("absent.{ZONE}")] {
            for kind in 1..=260 {
                for payload in [None, Some(u16::MAX)] {
                    let message = query(&name, kind, payload);
                    let answer = self.ask(&message).await?.context("no answer")?;
                    largest = largest.max(relation(&answer, &message));
                }
            }
        }
        Ok(largest)
    }

    /// Sends `count` mutated queries as fast as they are read, and counts the answers. Then the responder
    /// must answer as before.
    ///
    /// # Errors
    /// It has ended, or it does not answer.
    pub async fn flood(&self, count: usize) -> Result<Flood> {
        let before = self.usage().await?;
        let socket = UdpSocket::from_std(bind()?)?;
        socket.connect(self.address).await?;
        let marker = query(ZONE, SOA, None);
        let mut flood = Flood { answered: 0, amplification: 0.0, growth: 0 };
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for number in 0..count {
            let id = u16::try_from(sent.len() + 1)?.to_be_bytes();
            let payload = if number % 2 == 0 { None } else { Some(4096) };
            let mut message = query(&challenge(number % self.entries), TXT, payload);
            numbers.mutate(&mut message);
            // The identifier finds the query of an answer.
            if let Some(place) = message.first_chunk_mut() {
                *place = id;
            }
            socket.send(&message).await?;
            sent.push(message);
            if sent.len() == WINDOW || number + 1 == count {
                socket.send(&marker).await?;
                flood.collect(&socket, &sent).await?;
                sent.clear();
            }
        }
        self.manager.lock().await.check()?;
        self.until_published().await?;
        let after = self.usage().await?;
        flood.growth = after.anonymous.saturating_sub(before.anonymous);
        Ok(flood)
    }

    /// The page `/metrics` of the responder.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> Result<String> {
        Ok(scrape::page(self.http, "/metrics").await?.1)
    }

    async fn usage(&self) -> Result<Usage> {
        self.manager.lock().await.usage()
    }

    async fn ask(&self, message: &[u8]) -> Result<Option<Vec<u8>>> {
        let socket = UdpSocket::from_std(bind()?)?;
        socket.connect(self.address).await?;
        socket.send(message).await?;
        let mut answer = vec![0; 4096];
        Ok(match timeout(Duration::from_secs(1), socket.recv(&mut answer)).await {
            Ok(Ok(length)) => {
                answer.truncate(length);
                Some(answer)
            }
            Ok(Err(_)) | Err(_) => None,
        })
    }
}

impl Flood {
    /// Receives answers until that of the marker, whose identifier is 0.
    async fn collect(&mut self, socket: &UdpSocket, sent: &[Vec<u8>]) -> Result<()> {
        let mut answer = [0; 4096];
        loop {
            let length = timeout(Duration::from_secs(5), socket.recv(&mut answer)).await;
            let length = length.context("the responder does not answer")??;
            let Some(answer) = answer.get(..length) else { bail!("no answer") };
            let Some(id) = answer.first_chunk() else { bail!("an answer of {length} bytes") };
            let id = usize::from(u16::from_be_bytes(*id));
            if id == 0 {
                return Ok(());
            }
            let Some(query) = sent.get(id - 1) else { bail!("an answer to no query") };
            self.answered += 1;
            self.amplification = self.amplification.max(relation(answer, query));
        }
    }
}

fn bind() -> Result<StdSocket> {
    let socket = StdSocket::bind("127.0.0.1:0")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn challenge(number: usize) -> String {
    format!("_acme-challenge.e{number}.{ZONE}")
}

const TXT: u16 = 16;
const SOA: u16 = 6;

/// A query, with EDNS if there is a payload size.
fn query(name: &str, kind: u16, payload: Option<u16>) -> Vec<u8> {
    let additional = u8::from(payload.is_some());
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, additional];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    if let Some(payload) = payload {
        message.extend([0, 0, 41]);
        message.extend(payload.to_be_bytes());
        message.extend([0; 6]);
    }
    message
}

/// The number of answers in a response.
fn answers(response: &[u8]) -> u16 {
    match response {
        [_, _, _, _, _, _, high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn relation(answer: &[u8], query: &[u8]) -> f64 {
    answer.len() as f64 / query.len().max(1) as f64
}

/// A small generator of numbers (xorshift): a failure is reproducible.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.0 % bound).unwrap_or_default()
    }

    /// Changes a few bytes, and often the length.
    fn mutate(&mut self, message: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let place = self.below(message.len() + 1);
            let byte = u8::try_from(self.below(256)).unwrap_or_default();
            match self.below(8) {
                0 => message.truncate(place),
                1 => message.insert(place, byte),
                // A compression pointer.
                2 => drop(message.splice(place.., [0xc0, byte])),
                3 => message.extend(std::iter::repeat_n(byte, self.below(1024))),
                _ => {
                    if let Some(changed) = message.get_mut(place) {
                        *changed = byte;
                    }
                }
            }
        }
    }
}
