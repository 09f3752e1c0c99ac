//! Several clusters and several managers: a [`TestEnv`](crate::test_env::TestEnv) with the four
//! logical clusters on up to four API servers, and with managers that can be killed, frozen and
//! resumed.

pub mod options;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use cert_controller_manager::access::Cluster;
use kube::{Client, api::DynamicObject};
use tokio::sync::Mutex;

use crate::{
    Look,
    audit::Request,
    controlplane::{ControlPlane, ControlPlaneOptions},
    eventually,
    manager::{Manager, ManagerOptions, Usage},
    objects::{self, acme_issuer, apply, is_established},
    pebble::{Pebble, PebbleOptions},
    processes::{free_port, logs},
    scrape::Scrape,
    test_env::{ISSUER, ZONE, define_dns_entry},
};
use options::{Access, FleetOptions, Layout};

/// A running fleet. Everything ends when it is dropped.
pub struct Fleet {
    // Dropped in this order: clients before servers.
    managers: Vec<Member>,
    responder: Manager,
    /// The CA.
    pub pebble: Pebble,
    /// The API servers.
    pub planes: Vec<ControlPlane>,
    layout: Layout,
    logs: PathBuf,
}

/// A manager and the options to restart it.
struct Member {
    options: ManagerOptions,
    http: Option<u16>,
    /// `None` while it is stopped on purpose.
    process: Mutex<Option<Manager>>,
}

const START: Duration = Duration::from_secs(60);

impl Fleet {
    /// Starts everything but the issuer. Waits for the managers' definitions where all API servers
    /// run.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(options: FleetOptions) -> Result<Self> {
        let (dns, logs) = (free_port()?, logs()?);
        let planes = planes(&options, &logs).await?;
        let layout = options.layout;
        let pebble = PebbleOptions { dns: Some(dns), ..options.pebble.clone() };
        let pebble = Pebble::start(&pebble, planes[0].data(), &logs).await?;
        let asked = planes[layout.dns].kubeconfig("manager")?;
        let responder = Manager::answer(&asked, dns, ZONE, &logs)?;
        for plane in &options.away {
            planes[*plane].stop_apiserver().await?;
        }
        let managers = (0..options.managers)
            .map(|number| member(number, &options, &planes, &pebble, dns))
            .collect::<Result<Vec<Member>>>()?;
        let fleet = Self { managers, responder, pebble, planes, layout, logs };
        if options.idle || options.managers == 0 {
            return Ok(fleet);
        }
        for number in 0..options.managers {
            fleet.restart(number).await?;
        }
        if options.away.is_empty() {
            fleet.until_defined().await?;
        }
        Ok(fleet)
    }

    /// Starts everything and an issuer that is Ready.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn with_issuer(options: FleetOptions) -> Result<Self> {
        let fleet = Self::start(options).await?;
        fleet.issuer(ISSUER, &fleet.pebble.directory()).await?;
        Ok(fleet)
    }

    /// The API server of this logical cluster.
    #[must_use]
    pub fn plane(&self, cluster: Cluster) -> &ControlPlane {
        &self.planes[self.layout.of(cluster)]
    }

    /// The administrator's client of this logical cluster.
    #[must_use]
    pub fn client(&self, cluster: Cluster) -> Client {
        self.plane(cluster).client()
    }

    /// The user of manager `number` at every API server, as in the audit logs, and the name of its
    /// log. [`FleetOptions::user`] overrides it.
    #[must_use]
    pub fn user(number: usize) -> String {
        format!("manager-{}", char::from(b'a' + u8::try_from(number % 26).unwrap_or_default()))
    }

    /// Applies an ACME issuer in the namespace `default` and waits until it is Ready.
    ///
    /// # Errors
    /// It is not Ready in time.
    pub async fn issuer(&self, name: &str, server: &str) -> Result<()> {
        let client = self.client(Cluster::Default);
        apply(&client, "default", &acme_issuer(name, server)?).await?;
        let issuers = objects::api(&client, "Issuer", "default")?;
        eventually(START, &format!("Issuer {name} is Ready"), || async {
            self.check().await?;
            Ok(objects::has_state(issuers.get(name).await?, "Ready"))
        })
        .await?;
        Ok(())
    }

    /// Fails with the end of the log of a manager that ended unexpectedly.
    ///
    /// # Errors
    /// One has ended.
    pub async fn check(&self) -> Result<()> {
        for member in &self.managers {
            if let Some(manager) = member.process.lock().await.as_mut() {
                manager.check()?;
            }
        }
        Ok(())
    }

    /// Kills a manager: no chance to clean up.
    ///
    /// # Errors
    /// It had ended by itself.
    pub async fn kill(&self, number: usize) -> Result<()> {
        let mut place = self.member(number)?.process.lock().await;
        let mut manager = place.take().context("it does not run")?;
        manager.check()?;
        manager.kill()
    }

    /// Terminates a manager gracefully, waits, and returns its resource usage.
    ///
    /// # Errors
    /// It does not end, ends with another status than 0, or had ended by itself.
    pub async fn stop(&self, number: usize) -> Result<Usage> {
        let mut place = self.member(number)?.process.lock().await;
        let mut manager = place.take().context("it does not run")?;
        manager.check()?;
        let usage = manager.usage()?;
        let status = manager.stop().await?;
        anyhow::ensure!(status.success(), "manager {number} ended with {status}");
        Ok(usage)
    }

    /// Starts a manager, after it was killed or stopped or has ended.
    ///
    /// # Errors
    /// It does not start.
    pub async fn restart(&self, number: usize) -> Result<()> {
        let member = self.member(number)?;
        let mut place = member.process.lock().await;
        drop(place.take());
        *place = Some(Manager::start(&member.options, &self.logs)?);
        Ok(())
    }

    /// Stops a manager with SIGSTOP, with all its connections open, until [`Fleet::resume`].
    ///
    /// # Errors
    /// It does not run.
    pub async fn freeze(&self, number: usize) -> Result<()> {
        self.member(number)?.process.lock().await.as_ref().context("it does not run")?.freeze()
    }

    /// Continues a manager after [`Fleet::freeze`].
    ///
    /// # Errors
    /// It does not run.
    pub async fn resume(&self, number: usize) -> Result<()> {
        self.member(number)?.process.lock().await.as_ref().context("it does not run")?.resume()
    }

    /// Stops the DNS server of the zone with SIGSTOP, so that orders make no progress, until
    /// [`Fleet::resume_dns`].
    ///
    /// # Errors
    /// It does not run.
    pub fn hold_dns(&self) -> Result<()> {
        self.responder.freeze()
    }

    /// Continues the DNS server after [`Fleet::hold_dns`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume_dns(&self) -> Result<()> {
        self.responder.resume()
    }

    /// Waits until a manager has ended by itself. It can be restarted then.
    ///
    /// # Errors
    /// It runs on.
    pub async fn until_ended(&self, number: usize, deadline: Duration) -> Result<()> {
        let member = self.member(number)?;
        eventually(deadline, &format!("manager {number} ends by itself"), || async {
            let mut place = member.process.lock().await;
            let ended = place.as_mut().map_or(Ok(None), Manager::ended)?;
            Ok(ended.map_or_else(|| Look::NotYet("it runs".to_owned()), |_| Look::Done(())))
        })
        .await?;
        drop(member.process.lock().await.take());
        Ok(())
    }

    /// The resource usage of a manager.
    ///
    /// # Errors
    /// It does not run.
    pub async fn usage(&self, number: usize) -> Result<Usage> {
        self.member(number)?.process.lock().await.as_ref().context("it does not run")?.usage()
    }

    /// The log of a manager, of this and earlier processes.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn log(&self, number: usize) -> Result<String> {
        let name = &self.member(number)?.options.name;
        Ok(std::fs::read_to_string(self.logs.join(format!("{name}.log")))?)
    }

    /// The HTTP port of a manager.
    ///
    /// # Errors
    /// It serves no HTTP: see [`FleetOptions::http`].
    pub fn http_port(&self, number: usize) -> Result<u16> {
        self.member(number)?.http.context("this fleet serves no HTTP")
    }

    /// The metrics of a manager.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self, number: usize) -> Result<Scrape> {
        Scrape::read(self.http_port(number)?).await
    }

    /// The holder of the only Lease in this namespace of the default cluster; `None` without one.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn lease_holder(&self, namespace: &str) -> Result<Option<String>> {
        let leases = objects::list(&self.client(Cluster::Default), "Lease", namespace).await?;
        let holder = |lease: &DynamicObject| {
            lease.data["spec"]["holderIdentity"].as_str().map(str::to_owned)
        };
        // The API server has one of its own in kube-system.
        let foreign = |lease: &&DynamicObject| {
            !lease.metadata.name.as_deref().is_some_and(|name| name.starts_with("apiserver-"))
        };
        Ok(leases.iter().find(foreign).and_then(holder).filter(|holder| !holder.is_empty()))
    }

    /// The requests that RBAC refused, as far as the API servers record them.
    ///
    /// # Errors
    /// A log cannot be read.
    pub fn forbidden(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for plane in &self.planes {
            let requests = plane.audit()?;
            all.extend(requests.iter().filter(|one| one.is_forbidden()).map(Request::to_string));
        }
        Ok(all)
    }

    /// Waits until no challenge record and no order in progress is left in any cluster.
    ///
    /// # Errors
    /// Some are left.
    pub async fn until_nothing_is_left(&self, deadline: Duration) -> Result<()> {
        let (dns, default) = (self.client(Cluster::Dns), self.client(Cluster::Default));
        objects::until_nothing_is_left(&dns, &default, deadline).await
    }

    fn member(&self, number: usize) -> Result<&Member> {
        self.managers.get(number).with_context(|| format!("there is no manager {number}"))
    }

    /// Waits until Issuers and Certificates are defined.
    ///
    /// # Errors
    /// They are not in time.
    pub async fn until_defined(&self) -> Result<()> {
        for (cluster, plural) in [
            (Cluster::Default, "issuers"),
            (Cluster::Source, "certificates"),
            (Cluster::Source, "certificaterevocations"),
        ] {
            let (client, name) = (self.client(cluster), format!("{plural}.cert.gardener.cloud"));
            eventually(START, &format!("{name} is there on {cluster}"), || async {
                self.check().await?;
                is_established(&client, &name).await
            })
            .await?;
        }
        Ok(())
    }
}

/// Starts the API servers in parallel, with their definitions and rights.
async fn planes(options: &FleetOptions, logs: &Path) -> Result<Vec<ControlPlane>> {
    let start = (0..options.layout.planes()).map(|number| async move {
        let roles = options.layout.roles(number);
        let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
        let plane = ControlPlane::start_with(ControlPlaneOptions {
            name: names.join("-"),
            logs: Some(logs.to_owned()),
            users: options.users(),
            audit: options.audit,
            ..ControlPlaneOptions::default()
        })
        .await?;
        prepare(&plane, &roles, options).await?;
        Ok(plane)
    });
    futures::future::try_join_all(start).await
}

async fn prepare(plane: &ControlPlane, roles: &[Cluster], options: &FleetOptions) -> Result<()> {
    let client = plane.client();
    if roles.contains(&Cluster::Dns) {
        define_dns_entry(&client).await?;
    }
    if options.definitions {
        objects::define_ours(&client).await?;
    }
    for user in options.users() {
        match options.access {
            Access::Everything => plane.grant_everything(&user).await?,
            Access::Granted => plane.grant_access(&user, roles).await?,
            Access::Nothing => {}
        }
    }
    Ok(())
}

fn member(
    number: usize,
    options: &FleetOptions,
    planes: &[ControlPlane],
    pebble: &Pebble,
    dns: u16,
) -> Result<Member> {
    let (user, layout) = (options.user(number), options.layout);
    let kubeconfig = |plane: usize| planes[plane].kubeconfig(&user);
    let mut arguments = Vec::new();
    let fallbacks = [
        ("--source", layout.source, layout.default),
        ("--dns", layout.dns, layout.default),
        ("--target", layout.target, layout.source),
    ];
    for (flag, plane, fallback) in fallbacks {
        if plane != fallback {
            arguments.extend([flag.to_owned(), kubeconfig(plane)?.display().to_string()]);
        }
    }
    let http = if options.http { Some(free_port()?) } else { None };
    if let Some(port) = http {
        arguments.extend(["--server-port-http".to_owned(), port.to_string()]);
    }
    arguments.extend(options.arguments.iter().cloned());
    arguments.extend(options.arguments_of.get(number).into_iter().flatten().cloned());
    let options = ManagerOptions {
        name: Fleet::user(number),
        kubeconfig: kubeconfig(layout.default)?,
        default_issuer: ISSUER.to_owned(),
        answer_dns: None,
        zones: Vec::new(),
        precheck: dns,
        trust: pebble.trust().to_owned(),
        arguments,
        environment: Vec::new(),
    };
    Ok(Member { options, http, process: Mutex::new(None) })
}
