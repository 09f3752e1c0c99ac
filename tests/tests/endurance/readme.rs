//! The steps of the README on an API server that has no definitions but ours, and the examples that
//! it names. Differences: paths, ports, and the CA, which is ours.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tests::{
    Look,
    controlplane::ControlPlane,
    eventually, locate,
    objects::{self, acme_issuer, api, apply, documents, state},
    pebble::{Pebble, PebbleOptions},
    processes::{Process, free_port},
    run,
};

const SOON: Duration = Duration::from_secs(60);
const DNS_ENTRIES: &str = "dnsentries.dns.gardener.cloud";
/// Annotation of definitions that the manager has created.
const MAINTAINER: &str = "crds.gardener.cloud/maintainer";

/// A control plane, a CA and the processes that the README starts.
struct Reader {
    control_plane: ControlPlane,
    pebble: Pebble,
    manager: Process,
}

/// The commands in the README's section on usage.
fn commands() -> Result<Vec<String>> {
    let text = locate::read("README.md")?;
    let section = text.split("\n## ").find(|section| section.starts_with("Use\n"));
    let mut blocks = section.context("there is no section Use")?.split("```");
    let mut commands = Vec::new();
    while let (Some(_), Some(block)) = (blocks.next(), blocks.next()) {
        let lines = block.strip_prefix("sh\n").context("a block that is no shell's")?.lines();
        commands.extend(lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()));
    }
    Ok(commands)
}

impl Reader {
    /// Starts the manager with the arguments of `command`.
    async fn start(command: &str) -> Result<Self> {
        let control_plane = ControlPlane::start().await?;
        let port = free_port()?;
        let logs = control_plane.logs().to_owned();
        let pebble = PebbleOptions { dns: Some(port), ..PebbleOptions::default() };
        let pebble = Pebble::start(&pebble, control_plane.data(), &logs).await?;
        let mut words = command.split(' ');
        ensure!(words.next() == Some("cert-controller-manager"), "{command}");
        let mut manager = Command::new(locate::manager()?);
        for word in words {
            let (flag, value) = word.split_once('=').context("a flag without a value")?;
            let value = match flag {
                "--kubeconfig" => control_plane.kubeconfig("manager")?.display().to_string(),
                "--answer-dns" => format!("127.0.0.1:{port}"),
                "--answer-zone" => value.to_owned(),
                other => anyhow::bail!("the README has a new flag: {other}"),
            };
            manager.arg(format!("{flag}={value}"));
        }
        // The zone is not delegated to the responder, and the CA's certificate is self-signed.
        manager.arg(format!("--precheck-nameservers=127.0.0.1:{port}"));
        manager.env("LEGO_CA_CERTIFICATES", pebble.trust());
        let manager = Process::spawn("manager", &mut manager, &logs)?;
        Ok(Self { control_plane, pebble, manager })
    }

    fn client(&self) -> kube::Client {
        self.control_plane.client()
    }

    /// Runs a `kubectl` command.
    async fn kubectl(&mut self, words: &[&str]) -> Result<()> {
        match words {
            ["apply", file] => {
                let file = file.strip_prefix("--filename=").context("no file")?;
                self.apply(file).await.with_context(|| format!("kubectl apply {file}"))
            }
            ["wait", condition, timeout, object] => {
                ensure!(timeout.starts_with("--timeout="));
                let condition =
                    condition.strip_prefix("--for=condition=").context("no condition")?;
                let (kind, name) = object.split_once('/').context("no object")?;
                let kind = if kind == "issuer" { "Issuer" } else { "Certificate" };
                self.until(kind, name, condition).await
            }
            other => anyhow::bail!("the README has a new command: {other:?}"),
        }
    }

    /// Applies a file once its kinds are defined. Replaces the CA by ours.
    async fn apply(&mut self, file: &str) -> Result<()> {
        for mut object in documents(&locate::read(file)?)? {
            if object["spec"]["acme"].is_object() {
                object["spec"]["acme"]["server"] = json!(self.pebble.directory());
            }
            self.put(&object).await?;
        }
        Ok(())
    }

    async fn put(&mut self, object: &Value) -> Result<()> {
        let client = self.client();
        let what = format!("{} is applied", object["kind"]);
        let manager = &mut self.manager;
        manager.check()?;
        eventually(SOON, &what, || async {
            Ok(match apply(&client, "default", object).await {
                Ok(_) => Look::Done(()),
                Err(error) => Look::NotYet(format!("{error:#}")),
            })
        })
        .await
    }

    async fn until(&self, kind: &str, name: &str, condition: &str) -> Result<()> {
        let objects = api(&self.client(), kind, "default")?;
        eventually(SOON, &format!("{kind} {name} has the condition {condition}"), || async {
            let object = objects.get(name).await?;
            let conditions = object.data["status"]["conditions"].as_array();
            let found = conditions.into_iter().flatten().find(|it| it["type"] == condition);
            let generation = json!(object.metadata.generation);
            let holds =
                |it: &&Value| it["status"] == "True" && it["observedGeneration"] == generation;
            Ok(match found.filter(holds) {
                Some(_) => Look::Done(()),
                None => Look::NotYet(format!("{found:?} {:?}", state(&object))),
            })
        })
        .await
    }

    /// Registers an account at the CA with the key of an example.
    async fn account_of(&mut self, file: &str) -> Result<()> {
        let all = documents(&locate::read(file)?)?;
        let [secret, example] = all.as_slice() else { anyhow::bail!("{file}") };
        let mut issuer = acme_issuer("issuer-of-the-account", &self.pebble.directory())?;
        issuer["spec"]["acme"]["privateKeySecretRef"] =
            example["spec"]["acme"]["privateKeySecretRef"].clone();
        self.put(secret).await?;
        self.put(&issuer).await?;
        self.until("Issuer", "issuer-of-the-account", "AccountRegistered").await
    }
}

#[test]
fn the_steps_of_the_readme_work_in_an_empty_cluster() {
    run(async {
        let commands = commands()?;
        let (start, steps) = commands.split_first().context("there are no commands")?;
        let mut reader = Reader::start(start).await?;
        ensure!(steps.len() == 4, "{steps:#?}");
        for step in steps {
            let words: Vec<&str> = step.split(' ').collect();
            let (program, words) = words.split_first().context("an empty command")?;
            ensure!(*program == "kubectl", "{step}");
            reader.kubectl(words).await?;
        }
        reader.until("Issuer", "issuer-acme", "AccountRegistered").await?;
        api(&reader.client(), "Secret", "default")?.get("cert-simple-tls").await?;
        let definitions = api(&reader.client(), "CustomResourceDefinition", "")?;
        let definition = definitions.get(DNS_ENTRIES).await?;
        let annotations = definition.metadata.annotations.unwrap_or_default();
        ensure!(annotations.contains_key(MAINTAINER), "the definition is not the manager's");

        // The other examples of the README.
        reader.apply("examples/20-issuer-letsencrypt.yaml").await?;
        for name in ["letsencrypt-staging", "letsencrypt"] {
            reader.until("Issuer", name, "Ready").await?;
        }
        let existing = "examples/22-issuer-existing-account.yaml";
        reader.account_of(existing).await?;
        reader.apply(existing).await?;
        reader.until("Issuer", "issuer-existing", "Ready").await?;
        reader.apply("examples/60-echo-server.yaml").await?;
        eventually(SOON, "the echo server has its certificate", || async {
            let secrets = objects::list(&reader.client(), "Secret", "default").await?;
            let has = secrets.iter().any(|it| it.name_any() == "echo-tls");
            Ok(if has { Look::Done(()) } else { Look::NotYet(objects::names(&secrets)) })
        })
        .await?;
        objects::until_nothing_is_left(&reader.client(), &reader.client(), SOON).await
    })
    .unwrap();
}

/// Users copy them, and tests must not connect to these servers.
#[test]
fn the_examples_of_lets_encrypt_name_its_servers() {
    let text = locate::read("examples/20-issuer-letsencrypt.yaml").unwrap();
    let servers = documents(&text).unwrap();
    let servers: Vec<_> = servers.iter().map(|it| &it["spec"]["acme"]["server"]).collect();
    let wanted = ["acme-staging-v02", "acme-v02"];
    let wanted = wanted.map(|host| format!("https://{host}.api.letsencrypt.org/directory"));
    assert_eq!(servers, wanted.iter().collect::<Vec<_>>());
}
