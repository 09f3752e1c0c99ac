//! The test environment: a control plane, Pebble, the manager and a DNS responder.

use std::time::Duration;

use anyhow::Result;
use tokio::sync::{Mutex, OnceCell};

use crate::{
    bind::{self, Bind},
    controlplane::ControlPlane,
    eventually, locate,
    manager::{Manager, ManagerOptions, Usage},
    objects::{self, acme_issuer, apply, is_established, until_established},
    pebble::{Pebble, PebbleOptions},
    processes::free_port,
    proxy::Proxy,
};

/// The zone that every test environment serves.
pub const ZONE: &str = "my-company.test";
/// The issuer of every test environment, in the namespace `default`.
pub const ISSUER: &str = "issuer-acme";

/// The DNS responder that the CA asks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Responder {
    /// The manager itself.
    #[default]
    Embedded,
    /// A process of its own, which survives when the manager is killed.
    StandAlone,
}

/// The resource definitions that exist before the manager starts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Definitions {
    /// DNSEntry; the manager creates its own.
    #[default]
    Usual,
    /// None: the manager creates its own, and DNSEntry is missing.
    NoDnsEntry,
    /// DNSEntry and ours without validation rules, as another product may install them. The manager
    /// does not change them.
    WithoutRules,
}

/// Options of a test environment.
#[derive(Clone, Debug, Default)]
pub struct TestEnvOptions {
    /// The CA; its `dns` is filled in.
    pub pebble: PebbleOptions,
    /// The DNS responder of the CA.
    pub responder: Responder,
    /// The definitions of resources.
    pub definitions: Definitions,
    /// Further arguments for the manager.
    pub arguments: Vec<String>,
    /// Further environment variables of the manager.
    pub environment: Vec<(String, String)>,
    /// Whether a proxy that can inject faults stands between the manager and the CA.
    pub proxy: bool,
    /// Whether one stands between the manager and the API server.
    pub api_proxy: bool,
    /// The host name of the API server in the manager's kubeconfig, if it is not 127.0.0.1.
    pub api_host: Option<&'static str>,
    /// Further zones, as lines of zone files: a BIND serves them, and the CA uses it for all
    /// queries.
    pub zones: Vec<(&'static str, String)>,
    /// Further zones that the CA asks servers at these ports of 127.0.0.1 for.
    pub forwards: Vec<(&'static str, u16)>,
}

/// A running test environment. Everything ends when it is dropped.
pub struct TestEnv {
    // Dropped in this order: clients before servers.
    manager: Mutex<Manager>,
    /// The stand-alone responder, if there is one.
    _responder: Option<Manager>,
    /// The proxy before the CA, if there is one.
    pub proxy: Option<Proxy>,
    /// The proxy before the API server, if there is one.
    pub api_proxy: Option<Proxy>,
    /// The CA.
    pub pebble: Pebble,
    /// The server of the further zones, if there are some.
    pub bind: Option<Bind>,
    /// The cluster.
    pub control_plane: ControlPlane,
    /// The zone that the responder answers for.
    pub zone: String,
    options: ManagerOptions,
}

impl TestEnv {
    /// Starts all parts except the issuer, and waits until the manager's definitions exist.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn start(options: TestEnvOptions) -> Result<Self> {
        let dns = free_port()?;
        let control_plane = ControlPlane::start().await?;
        let client = control_plane.client();
        let mut arguments = options.arguments;
        // Without a lease: the only manager would not be restarted after it loses one, and after a
        // kill the next one would have to wait. Tests of the lease use fleets.
        arguments.push("--omit-lease".to_owned());
        if options.definitions != Definitions::NoDnsEntry {
            define_dns_entry(&client).await?;
        }
        if options.definitions == Definitions::WithoutRules {
            objects::define_changed(&client, without_rules).await?;
            for cluster in ["kubeconfig", "source"] {
                arguments.push(format!("--{cluster}.disable-deploy-crds"));
            }
        }
        let zones = options.zones.iter().map(|(name, text)| (*name, bind::Zone::Primary(text)));
        let forwards = options.forwards.iter().map(|(name, port)| (*name, *port));
        let forwards = forwards.chain([(ZONE, dns)]);
        let forwards = forwards.map(|(name, port)| (name, bind::Zone::Forward(port)));
        let bind = if options.zones.is_empty() && options.forwards.is_empty() {
            None
        } else {
            let all: Vec<_> = zones.chain(forwards).collect();
            Some(Bind::start(&all, control_plane.logs()).await?)
        };
        let asked = bind.as_ref().map_or(dns, |bind| bind.port());
        let pebble = PebbleOptions { dns: Some(asked), ..options.pebble };
        let pebble = Pebble::start(&pebble, control_plane.data(), control_plane.logs()).await?;
        let proxy = if options.proxy { Some(Proxy::for_pebble(&pebble).await?) } else { None };
        let mut kubeconfig = control_plane.kubeconfig("manager")?;
        let mut api_proxy = None;
        if options.api_proxy {
            let proxy = Proxy::for_api_server(&control_plane).await?;
            kubeconfig = proxy.use_proxy_in(&kubeconfig)?;
            api_proxy = Some(proxy);
        }
        if let Some(host) = options.api_host {
            let text = std::fs::read_to_string(&kubeconfig)?.replacen("127.0.0.1", host, 1);
            kubeconfig = kubeconfig.with_extension("host.yaml");
            std::fs::write(&kubeconfig, text)?;
        }
        let logs = control_plane.logs();
        let (answer_dns, responder) = match options.responder {
            Responder::Embedded => (Some(dns), None),
            Responder::StandAlone => (None, Some(Manager::answer(&kubeconfig, dns, ZONE, logs)?)),
        };
        let options = ManagerOptions {
            name: "manager".to_owned(),
            kubeconfig,
            default_issuer: ISSUER.to_owned(),
            answer_dns,
            zones: vec![ZONE.to_owned()],
            precheck: dns,
            trust: pebble.trust().to_owned(),
            arguments,
            environment: options.environment,
        };
        let manager = Mutex::new(Manager::start(&options, logs)?);
        let zone = ZONE.to_owned();
        let _responder = responder;
        let env = Self {
            manager,
            _responder,
            proxy,
            api_proxy,
            pebble,
            bind,
            control_plane,
            zone,
            options,
        };
        env.until_manager_is_up().await?;
        Ok(env)
    }

    /// Starts all parts and an issuer that is Ready.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn with_issuer(options: TestEnvOptions) -> Result<Self> {
        let env = Self::start(options).await?;
        env.issuer(ISSUER, &env.directory()).await?;
        Ok(env)
    }

    /// The shared test environment of one test program, with the default options.
    ///
    /// # Errors
    /// Something does not start.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<TestEnv> = OnceCell::const_new();
        SHARED.get_or_try_init(|| Self::with_issuer(TestEnvOptions::default())).await
    }

    /// The URL of the CA's directory, through the proxy if there is one.
    #[must_use]
    pub fn directory(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.pebble.directory(), Proxy::directory)
    }

    /// The log of the manager.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn manager_log(&self) -> Result<String> {
        let name = format!("{}.log", self.options.name);
        Ok(std::fs::read_to_string(self.control_plane.logs().join(name))?)
    }

    /// Applies an ACME issuer in the namespace `default` and waits until it is Ready.
    ///
    /// # Errors
    /// It is not Ready in time.
    pub async fn issuer(&self, name: &str, server: &str) -> Result<()> {
        let client = self.control_plane.client();
        apply(&client, "default", &acme_issuer(name, server)?).await?;
        self.until_issuer(name, "Ready", Duration::from_secs(60)).await?;
        Ok(())
    }

    /// Waits until an issuer in the namespace `default` has a state, and returns its message.
    ///
    /// # Errors
    /// It does not before the deadline.
    pub async fn until_issuer(
        &self,
        name: &str,
        wanted: &str,
        deadline: Duration,
    ) -> Result<String> {
        let issuers = objects::api(&self.control_plane.client(), "Issuer", "default")?;
        let issuer = eventually(deadline, &format!("Issuer {name} is {wanted}"), || async {
            self.check_manager().await?;
            Ok(objects::has_state(issuers.get(name).await?, wanted))
        })
        .await?;
        Ok(objects::state(&issuer).1)
    }

    /// Fails with the end of the manager's log when it has ended.
    ///
    /// # Errors
    /// It has ended.
    pub async fn check_manager(&self) -> Result<()> {
        self.manager.lock().await.check()
    }

    /// Kills the manager and starts another.
    ///
    /// # Errors
    /// It does not start.
    pub async fn replace_manager(&self) -> Result<()> {
        let mut manager = self.manager.lock().await;
        manager.check()?;
        manager.kill()?;
        *manager = Manager::start(&self.options, self.control_plane.logs())?;
        Ok(())
    }

    /// Terminates the manager gracefully and waits. Returns its resource usage.
    ///
    /// # Errors
    /// It does not end, or had ended before.
    pub async fn stop_manager(&self) -> Result<Usage> {
        let mut manager = self.manager.lock().await;
        manager.check()?;
        let usage = manager.usage()?;
        manager.stop().await?;
        Ok(usage)
    }

    /// Starts the manager again after it was stopped.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_manager(&self) -> Result<()> {
        *self.manager.lock().await = Manager::start(&self.options, self.control_plane.logs())?;
        Ok(())
    }

    /// The resource usage of the manager.
    ///
    /// # Errors
    /// It does not run.
    pub async fn manager_usage(&self) -> Result<Usage> {
        self.manager.lock().await.usage()
    }

    /// Waits until no challenge record and no order in progress is left.
    ///
    /// # Errors
    /// Some are left.
    pub async fn until_nothing_is_left(&self, deadline: Duration) -> Result<()> {
        let client = self.control_plane.client();
        objects::until_nothing_is_left(&client, &client, deadline).await
    }

    async fn until_manager_is_up(&self) -> Result<()> {
        let client = self.control_plane.client();
        for plural in objects::OURS {
            let definition = format!("{plural}.cert.gardener.cloud");
            let what = format!("the manager has applied {definition}");
            eventually(Duration::from_secs(60), &what, || async {
                self.check_manager().await?;
                is_established(&client, &definition).await
            })
            .await?;
        }
        Ok(())
    }
}

/// Applies the definition of DNSEntry, gardener's own.
///
/// # Errors
/// It is not accepted.
pub async fn define_dns_entry(client: &kube::Client) -> Result<()> {
    for definition in objects::documents(&locate::dns_entry_definition().await?)? {
        apply(client, "", &definition).await?;
    }
    until_established(client, "dnsentries.dns.gardener.cloud").await
}

/// Removes the validation rules from a definition.
fn without_rules(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("x-kubernetes-validations");
            map.remove("maxLength");
            map.values_mut().for_each(without_rules);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}
