//! The manifests of `examples/powerdns/`: their scripts and configuration run a real server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use cert_lib::solve::dns_records::DnsRecords as _;
use http::Method;
use serde_json::Value;
use tests::{
    locate,
    objects::documents,
    powerdns::{Ports, PowerDns},
    processes::{free_port, logs, output, scratch},
    run,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Options, values};

const ZONE: &str = "intranet.example.com";
const KEY: &str = "0123456789abcdef";
const DIRECTORIES: [&str; 3] = ["/etc/powerdns", "/var/lib/powerdns", "/run/powerdns"];

/// All objects by kind and name, and the files in which they are.
fn manifests() -> Result<BTreeMap<String, Value>> {
    let directory = locate::checkout().join("examples/powerdns");
    let files = fs::read_dir(directory)?.map(|file| Ok(file?.path()));
    let files = files.collect::<Result<BTreeSet<PathBuf>>>()?;
    let mut objects = BTreeMap::new();
    for file in &files {
        for object in documents(&fs::read_to_string(file)?)? {
            let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let metadata = &object["metadata"];
            let namespace = word(&metadata["namespace"]);
            let key = format!("{} {namespace}/{}", word(&object["kind"]), word(&metadata["name"]));
            ensure!(objects.insert(key, object).is_none(), "{} repeats an object", file.display());
        }
    }
    Ok(objects)
}

/// A pod of the Deployment, as far as its files go.
struct Pod {
    root: PathBuf,
    manifests: BTreeMap<String, Value>,
}

impl Pod {
    fn new() -> Result<Self> {
        let (root, manifests) = (scratch()?, manifests()?);
        let pod = Self { root, manifests };
        for directory in DIRECTORIES {
            fs::create_dir_all(pod.path(directory))?;
        }
        let config = pod.manifests["ConfigMap powerdns/powerdns"]["data"].as_object();
        for (name, text) in config.context("no data")? {
            let text = text.as_str().context("no text")?;
            fs::write(pod.path("/etc/powerdns").join(name), pod.moved(text))?;
        }
        Ok(pod)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// `text` with the directories of this pod.
    fn moved(&self, text: &str) -> String {
        let moved =
            |text: String, path: &&str| text.replace(path, &self.path(path).to_string_lossy());
        DIRECTORIES.iter().fold(text.to_owned(), moved)
    }

    fn spec(&self) -> &Value {
        &self.manifests["Deployment powerdns/powerdns"]["spec"]["template"]["spec"]
    }

    /// Runs a command of a container with the API key `key`, and with the programs in `path` first.
    fn run(&self, command: &Value, path: &Path, key: &str) -> Result<()> {
        let words = command.as_array().context("no command")?.iter();
        let words: Vec<String> =
            words.map(|word| self.moved(word.as_str().unwrap_or_default())).collect();
        let (program, arguments) = words.split_first().context("the command is empty")?;
        let own = path.join(program);
        let program = if own.exists() { own } else { program.into() };
        let sqlite3 = locate::tool("sqlite3")?;
        let path = format!(
            "{}:{}",
            sqlite3.parent().context("no directory")?.display(),
            std::env::var("PATH")?
        );
        let mut command = Command::new(program);
        let done = output(command.args(arguments).env("APIKEY", key).env("PATH", path))?;
        ensure!(done.status.success(), "{words:?} fails with {}", done.status);
        Ok(())
    }
}

#[test]
fn the_files_of_the_manifests_run_a_server_for_the_issuer() {
    run(async {
        let (pod, programs) = (Pod::new()?, PowerDns::programs().await?);
        let prepare = &pod.spec()["initContainers"][0]["command"];
        let placeholder =
            &pod.manifests["Secret powerdns/powerdns-letsencrypt-apikey"]["stringData"];
        let placeholder = placeholder["apikey"].as_str().context("no apikey")?;
        ensure!(pod.run(prepare, &programs, placeholder).is_err(), "the placeholder is a key");
        pod.run(prepare, &programs, KEY)?;
        pod.run(prepare, &programs, KEY)?;
        let key_file = pod.path("/run/powerdns/api-key.conf");
        ensure!(fs::read_to_string(key_file)? == format!("api-key={KEY}\n"));

        let server = &pod.spec()["containers"][0];
        ensure!(
            server["command"] == serde_json::json!(["pdns_server", "--config-dir=/etc/powerdns"])
        );
        let ports = Ports { api: free_port()?, dns: free_port()? };
        let server =
            PowerDns::with_config(&pod.path("/etc/powerdns"), ports, KEY, &logs()?).await?;
        let before = server.records(ZONE).await?;
        ensure!(before == [format!("{ZONE}. 3600 NS powerdns.example.com.")], "{before:?}");
        let probe = &pod.spec()["containers"][0]["livenessProbe"]["exec"]["command"];
        pod.run(probe, &programs, KEY)?;
        ensure!(answer_to_transfer(&server).await? != 0, "the server permits AXFR");

        let solver =
            &pod.manifests["Issuer default/letsencrypt-intranet"]["spec"]["acme"]["solvers"][0];
        let solver = &solver["dns01"]["powerDNS"];
        let options = Options {
            zone: solver["zone"].as_str(),
            server_id: solver["serverID"].as_str().context("no serverID")?,
            ..Options::of(&server)
        };
        let client = options.client()?;
        let name = format!("_acme-challenge.qa.svc.cluster-01.{ZONE}");
        let first = soa(&server).await?;
        ensure!(first == (10, 1, 10), "{first:?}");
        client.add(&name.parse()?, &values(&["apex", "wildcard"])).await?;
        ensure!(server.txt(&name).await? == ["apex", "wildcard"]);
        client.remove(&name.parse()?, &values(&["apex", "wildcard"])).await?;
        ensure!(server.records(ZONE).await? == before);
        ensure!(soa(&server).await? == (10, 3, 10));
        Ok(())
    })
    .unwrap();
}

/// TTL, serial and negative TTL.
async fn soa(server: &PowerDns) -> Result<(u64, u64, u64)> {
    let (_, zone) = server.request(Method::GET, &format!("/zones/{ZONE}."), &Value::Null).await?;
    let sets = zone["rrsets"].as_array().context("no record sets")?;
    let soa = sets.iter().find(|set| set["type"] == "SOA").context("no SOA")?;
    let content = soa["records"][0]["content"].as_str().context("no content")?;
    let numbers: Vec<u64> = content.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [serial, _, _, _, negative] = numbers[..] else { anyhow::bail!("the SOA is {content}") };
    Ok((soa["ttl"].as_u64().context("no TTL")?, serial, negative))
}

/// The response code to a transfer (AXFR) of the zone.
async fn answer_to_transfer(server: &PowerDns) -> Result<u8> {
    let mut question = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ZONE.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 252, 0, 1]);
    let mut stream = TcpStream::connect(server.dns()).await?;
    stream.write_u16(u16::try_from(question.len())?).await?;
    stream.write_all(&question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer.get(3).context("no header")? & 15)
}

#[test]
fn the_manifests_fit_together() -> Result<()> {
    let manifests = manifests()?;
    let object = |key: &str| manifests.get(key).with_context(|| format!("no {key}"));
    let issuer = &object("Issuer default/letsencrypt-intranet")?["spec"]["acme"]["solvers"][0];
    let solver = &issuer["dns01"]["powerDNS"];
    let deployment = object("Deployment powerdns/powerdns")?;
    let pod = &deployment["spec"]["template"];
    let key = &pod["spec"]["initContainers"][0]["env"][0]["valueFrom"]["secretKeyRef"];
    ensure!(*key == solver["apiKeySecretRef"], "{key} is not the Secret of the Issuer");
    for namespace in ["powerdns", "default"] {
        let secret = format!("Secret {namespace}/powerdns-letsencrypt-apikey");
        let key = key["key"].as_str().context("no key")?;
        ensure!(object(&secret)?["stringData"][key] == "replace-me-by-a-random-key");
    }
    ensure!(issuer["selector"]["dnsZones"][0] == solver["zone"] && solver["zone"] == ZONE);
    let api = object("Service powerdns/powerdns-api")?;
    ensure!(solver["url"] == "http://powerdns-api.powerdns.svc:8081");
    ensure!(api["spec"]["ports"][0]["port"] == 8081);
    let dns = object("Service powerdns/powerdns-dns")?;
    ensure!(dns["spec"]["ports"][0]["port"] == 53 && dns["spec"]["ports"][0]["protocol"] == "UDP");
    let config = object("ConfigMap powerdns/powerdns")?["data"]["pdns.conf"].as_str();
    let config = config.context("no pdns.conf")?;
    let ports = pod["spec"]["containers"][0]["ports"].as_array().context("no ports")?;
    for service in [api, dns] {
        ensure!(service["spec"]["selector"] == pod["metadata"]["labels"]);
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            let target = ports.iter().find(|it| it["name"] == port["targetPort"]);
            let number = &target.with_context(|| format!("no {port}"))?["containerPort"];
            ensure!(config.contains(&format!("-port={number}\n")), "nothing listens on {number}");
        }
    }
    Ok(())
}
