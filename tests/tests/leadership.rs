//! Leader election and the fence against a real API server.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use cert_controller_manager::runtime::{
    admin::{Admin, HeartbeatState, Readiness, listen},
    clusters::{ClusterOptions, ClusterSettings, Clusters, Kubeconfig},
    fence::{Fence, NotLeading, boottime},
    leader::{Election, LeaseSettings, Lost},
    lease_thread::{LeaseThread, LeaseThreadConfig},
    metrics::{Limits, Metrics},
};
use k8s_openapi::api::{
    coordination::v1::{Lease, LeaseSpec},
    core::v1::ConfigMap,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{
    Look, controlplane::ControlPlane, eventually, processes::Process, run,
    stall_detector::StallDetector,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OnceCell, watch},
    time::{Instant, timeout},
};

const DURATION: Duration = Duration::from_secs(15);
/// For immediate events: sooner than the expiration of a lease.
const AT_ONCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_secs(60);

struct Shared {
    plane: ControlPlane,
    manager: PathBuf,
    unprivileged: PathBuf,
}

/// The shared environment of these tests. The kubeconfigs are written once, because a reader must
/// not see a partial file.
async fn shared() -> Result<&'static Shared> {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    let start = || async {
        let plane = ControlPlane::start().await?;
        let (manager, unprivileged) =
            (plane.kubeconfig("manager")?, plane.kubeconfig("unprivileged")?);
        Ok(Shared { plane, manager, unprivileged })
    };
    SHARED.get_or_try_init(start).await
}

/// The state of one process: its clients, its fence, its candidate.
struct Candidate {
    election: Election,
    fence: Fence,
    clusters: Clusters,
}

async fn connect(kubeconfig: &Path, fence: &Fence) -> Result<Clusters> {
    let kubeconfig = Some(Kubeconfig::Path(kubeconfig.to_owned()));
    let default = ClusterOptions { kubeconfig, ..ClusterOptions::default() };
    Clusters::connect(&ClusterSettings { default, ..ClusterSettings::default() }, fence).await
}

async fn candidate(kubeconfig: &Path, lease: &str, name: &str) -> Result<Candidate> {
    let fence = Fence::closed();
    let clusters = connect(kubeconfig, &fence).await?;
    let settings = LeaseSettings {
        duration: DURATION,
        renew_deadline: Duration::from_secs(10),
        retry_period: Duration::from_millis(400),
        ..LeaseSettings::new("default", lease)
    };
    settings.check()?;
    let election = Election::new(clusters.lease_client(), settings, name.to_owned(), fence.clone());
    Ok(Candidate { election, fence, clusters })
}

async fn pair(lease: &str) -> Result<(Candidate, Candidate)> {
    let file = &shared().await?.manager;
    Ok((candidate(file, lease, "one").await?, candidate(file, lease, "two").await?))
}

async fn lease(client: &Client, name: &str) -> Result<Lease> {
    Ok(Api::<Lease>::namespaced(client.clone(), "default").get(name).await?)
}

async fn write(client: &Client, name: &str) -> Result<(), kube::Error> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut object = ConfigMap::default();
    object.metadata.generate_name = Some(format!("{name}-"));
    api.create(&PostParams::default(), &object).await.map(drop)
}

#[test]
fn a_released_lease_is_acquired_at_once() {
    run(async {
        let (one, two) = pair("released").await?;
        timeout(SOON, one.election.acquire()).await.context("the lease is free")?;
        ensure!(one.election.is_leading() && !two.election.is_leading());
        write(&one.clusters.default.0, "leader").await?;
        let refused = write(&two.clusters.default.0, "standby").await.unwrap_err();
        ensure!(NotLeading::is(&refused), "{refused}");
        // While it is renewed no other candidate gets it.
        let waited = timeout(DURATION + AT_ONCE, async {
            tokio::select! {
                lost = one.election.keep() => lost.to_string(),
                () = two.election.acquire() => "the other one got it".to_owned(),
            }
        });
        ensure!(waited.await.is_err(), "the lease did not stay where it was");
        let before = lease(&shared().await?.plane.client(), "released").await?;
        let stalls = StallDetector::watch();
        let ((), took) = tokio::join!(one.election.release(), async {
            let start = Instant::now();
            two.election.acquire().await;
            start.elapsed()
        });
        ensure!(took < AT_ONCE + stalls.total(), "it took {took:?}");
        ensure!(!one.fence.permits() && two.fence.permits());
        let spec =
            lease(&shared().await?.plane.client(), "released").await?.spec.unwrap_or_default();
        ensure!(spec.holder_identity.as_deref() == Some("two"));
        ensure!(spec.lease_duration_seconds == Some(15));
        ensure!(
            (before.spec.and_then(|it| it.lease_transitions), spec.lease_transitions)
                == (Some(0), Some(1))
        );
        Ok(())
    })
    .unwrap();
}

#[test]
fn blocked_workers_delay_neither_the_lease_nor_the_http_port() {
    const WORKERS: usize = 2;
    let lease = LeaseSettings {
        duration: Duration::from_secs(5),
        renew_deadline: Duration::from_secs(3),
        retry_period: Duration::from_millis(500),
        ..LeaseSettings::new("default", "starved")
    };
    // The manager's runtime, separate from that of the test.
    let starved = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .unwrap();
    let admin = Admin {
        heartbeats: HeartbeatState::default(),
        readiness: Readiness::default(),
        metrics: Metrics::new(Limits::default()).unwrap(),
        authorizer: None,
    };
    let file = run(async { Ok(shared().await?.manager.clone()) }).unwrap();
    let fence = Fence::closed();
    let (thread, port) = starved
        .block_on(async {
            let port = listen("127.0.0.1:0".parse()?).await?.into_std()?;
            let address = port.local_addr()?;
            let clusters = connect(&file, &fence).await?;
            let (lease, fence) = (Some(lease), fence.clone());
            let config = LeaseThreadConfig {
                lease,
                fence,
                clusters,
                admin: admin.clone(),
                port: Some(port),
                metrics_authorization: false,
            };
            let thread = LeaseThread::start(config)?;
            thread.candidate().context("no candidate")?.acquire().await;
            anyhow::Ok((thread, address.port()))
        })
        .unwrap();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = std::sync::Arc::new(std::sync::Mutex::new(held));
    let (begun, all_begun) = std::sync::mpsc::channel();
    for _ in 0..WORKERS {
        let (held, begun) = (held.clone(), begun.clone());
        starved.spawn(async move {
            let _ = begun.send(());
            // It blocks its worker until the other side has closed.
            let _ = held.lock().map(|held| held.recv());
        });
    }
    (0..WORKERS).for_each(|_| all_begun.recv().unwrap());
    run(async {
        let client = shared().await?.plane.client();
        let of = async |name| anyhow::Ok(lease_spec(&client, name).await?);
        let first = of("starved").await?;
        let began = Instant::now();
        let mut silence = Duration::ZERO;
        while began.elapsed() < 3 * Duration::from_secs(5) {
            let asked = Instant::now();
            let (status, _) = tests::scrape::page(port, "/healthz").await?;
            silence = silence.max(asked.elapsed());
            ensure!(status == http::StatusCode::OK, "/healthz says {status}");
            ensure!(fence.permits(), "the fence has closed after {:?}", began.elapsed());
            tokio::task::yield_now().await;
        }
        ensure!(silence < AT_ONCE, "/healthz was silent for {silence:?}");
        let last = of("starved").await?;
        ensure!(last.renew_time > first.renew_time, "the lease was not renewed");
        ensure!(last.lease_transitions == Some(0) && last.holder_identity == first.holder_identity);
        // A controller that blocks for too long must end the leadership.
        let _still = admin.heartbeats.register("certificates", Duration::ZERO);
        let lost = thread.candidate().context("no candidate")?.lost();
        let lost = timeout(AT_ONCE, lost).await?.unwrap_err().to_string();
        ensure!(lost.contains("not working: certificates"), "{lost}");
        thread.stop().await;
        ensure!(!fence.permits(), "the fence is open after the end");
        ensure!(of("starved").await?.holder_identity.unwrap_or_default().is_empty());
        Ok(())
    })
    .unwrap();
    drop(release);
}

async fn lease_spec(client: &Client, name: &str) -> Result<LeaseSpec> {
    lease(client, name).await?.spec.context("a lease without spec")
}

#[test]
fn a_dead_leader_is_replaced_when_its_lease_expires_and_cannot_write_any_more() {
    run(async {
        let (one, two) = pair("expired").await?;
        one.election.acquire().await;
        // From here on it is not renewed. The other candidate has not seen it yet.
        let (start, stalls) = (Instant::now(), StallDetector::watch());
        two.election.acquire().await;
        let took = start.elapsed();
        ensure!(took >= DURATION - Duration::from_millis(50), "too early: {took:?}");
        ensure!(took < DURATION + AT_ONCE + stalls.total(), "too late: {took:?}");
        let api = one.clusters.default.0.clone();
        let before = shared().await?.plane.writes().await?;
        for answer in [
            write(&api, "dead").await,
            Api::<Lease>::namespaced(one.clusters.lease_client(), "default")
                .delete("expired", &DeleteParams::default())
                .await
                .map(drop),
        ] {
            let refused = answer.unwrap_err();
            ensure!(NotLeading::is(&refused), "{refused:?}");
        }
        let writes = shared().await?.plane.writes().await?.since(&before);
        ensure!(!writes.iter().any(|(write, _)| write.verb == "DELETE"), "{writes:?}");
        let lost = one.election.keep().await;
        ensure!(matches!(lost, Lost::Expired(_)), "{lost}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_leader_whose_lease_was_taken_stops_at_once() {
    run(async {
        let (one, _) = pair("taken").await?;
        one.election.acquire().await;
        let api: Api<Lease> = Api::namespaced(shared().await?.plane.client(), "default");
        let rival = json!({"spec": {"holderIdentity": "rival"}});
        api.patch("taken", &PatchParams::default(), &Patch::Merge(&rival)).await?;
        let (start, stalls) = (Instant::now(), StallDetector::watch());
        let lost = timeout(SOON, one.election.keep()).await.context("it did not notice")?;
        let took = start.elapsed();
        ensure!(took < AT_ONCE + stalls.total(), "too late: {took:?}");
        ensure!(lost == Lost::Taken("rival".to_owned()), "{lost}");
        ensure!(!one.fence.permits());
        one.election.release().await;
        let spec = lease(&shared().await?.plane.client(), "taken").await?.spec.unwrap_or_default();
        ensure!(spec.holder_identity.as_deref() == Some("rival"), "released what is not its own");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_leader_continues_when_its_lease_is_annotated_or_deleted() {
    run(async {
        let (one, two) = pair("touched").await?;
        one.election.acquire().await;
        let api: Api<Lease> = Api::namespaced(shared().await?.plane.client(), "default");
        let touch = async {
            let mark = json!({"metadata": {"annotations": {"touched": "yes"}}});
            api.patch("touched", &PatchParams::default(), &Patch::Merge(&mark)).await?;
            let renewed = |since: Option<Lease>| async {
                let now = api.get_opt("touched").await?.map(|lease| lease.spec);
                let known = since.map(|lease| lease.spec);
                let changed = now.is_some() && now != known;
                Ok(if changed { Look::Done(()) } else { Look::NotYet(format!("{now:?}")) })
            };
            let before = api.get_opt("touched").await?;
            eventually(SOON, "it is renewed", || renewed(before.clone())).await?;
            ensure!(api.get("touched").await?.metadata.annotations.is_some(), "the mark is gone");
            api.delete("touched", &DeleteParams::default()).await?;
            eventually(SOON, "it is made again", || renewed(None)).await?;
            ensure!(one.fence.permits());
            anyhow::Ok(())
        };
        tokio::select! {
            lost = one.election.keep() => anyhow::bail!("{lost}"),
            () = two.election.acquire() => anyhow::bail!("the other one took it"),
            touched = touch => touched,
        }
    })
    .unwrap();
}

#[test]
fn a_leader_that_cannot_renew_stops_in_time() {
    run(async {
        let shared = shared().await?;
        let file = shared.plane.data().join("demoted.yaml");
        std::fs::copy(&shared.manager, &file)?;
        let one = candidate(&file, "demoted", "one").await?;
        one.election.acquire().await;
        std::fs::copy(&shared.unprivileged, &file)?;
        one.clusters.check_kubeconfigs().await?;
        let lost = timeout(SOON, one.election.keep()).await.context("it goes on")?;
        ensure!(matches!(&lost, Lost::Expired(why) if why.contains("403")), "{lost}");
        ensure!(!one.fence.permits());
        Ok(())
    })
    .unwrap();
}

/// A server that accepts connections and forwards them to the real one only on request.
struct Slow {
    address: SocketAddr,
    go: watch::Sender<bool>,
    /// Number of accepted connections.
    taken: watch::Receiver<usize>,
}

impl Slow {
    async fn start(real: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (go, going) = watch::channel(false);
        let (take, taken) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                take.send_modify(|count| *count += 1);
                let (mut going, real) = (going.clone(), real.clone());
                tokio::spawn(async move {
                    going.wait_for(|go| *go).await?;
                    let mut far = TcpStream::connect(real).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await?;
                    anyhow::Ok(())
                });
            }
        });
        Ok(Self { address, go, taken })
    }
}

#[test]
fn a_write_that_waited_longer_than_the_lease_is_not_sent() {
    run(async {
        let Shared { plane, manager, .. } = shared().await?;
        let url = plane.url();
        let mut slow = Slow::start(url.trim_start_matches("https://").to_owned()).await?;
        let file = plane.data().join("slow.yaml");
        let text = std::fs::read_to_string(manager)?;
        std::fs::write(&file, text.replace(&url, &format!("https://{}", slow.address)))?;
        let fence = Fence::closed();
        let clusters = connect(&file, &fence).await?;
        ensure!(fence.open_until(boottime() + Duration::from_secs(8)));
        let client = clusters.default.0.clone();
        let writing = tokio::spawn(async move { write(&client, "late").await });
        timeout(SOON, slow.taken.wait_for(|count| *count > 0))
            .await
            .context("it does not write")??;
        ensure!(fence.permits(), "this machine is too slow for this test");
        eventually(SOON, "the permission runs out", || async {
            let seen = || Look::NotYet("not yet".to_owned());
            Ok(if fence.lapsed() { Look::Done(()) } else { seen() })
        })
        .await?;
        slow.go.send_replace(true);
        let refused = writing.await?.unwrap_err();
        ensure!(NotLeading::is(&refused), "{refused:?}");
        let written: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
        let names: Vec<_> = written.list(&ListParams::default()).await?.items;
        ensure!(!names.iter().any(|it| it.name_any().starts_with("late-")), "it was sent");
        Ok(())
    })
    .unwrap();
}

const KUBECONFIG_OF_FROZEN: &str = "KUBECONFIG_OF_FROZEN";

/// Not a test: the process that the next test freezes. It leads and writes in a loop.
#[test]
#[ignore = "a process of another test"]
fn frozen() {
    let Some(kubeconfig) = std::env::var_os(KUBECONFIG_OF_FROZEN) else { return };
    run(async {
        let one = candidate(Path::new(&kubeconfig), "frozen", "frozen").await?;
        one.election.acquire().await;
        let client = &one.clusters.default.0;
        let writers = (0..4).map(|_| async {
            loop {
                let _ = write(client, "frozen").await;
            }
        });
        tokio::select! {
            _ = one.election.keep() => {}
            _ = futures::future::join_all(writers) => {}
        }
        // Requests in flight may still complete.
        let late = (0..20).map(|_| write(client, "frozen"));
        let late = futures::future::join_all(late).await;
        ensure!(late.iter().all(Result::is_err), "it still writes");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_leader_that_was_frozen_writes_nothing_when_it_resumes() {
    run(async {
        let Shared { plane, manager, .. } = shared().await?;
        let api: Api<ConfigMap> = Api::namespaced(plane.client(), "default");
        let count = || async {
            let all = api.list(&ListParams::default()).await?.items;
            anyhow::Ok(all.iter().filter(|it| it.name_any().starts_with("frozen-")).count())
        };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--ignored", "--exact", "frozen"]).env(KUBECONFIG_OF_FROZEN, manager);
        let mut frozen = Process::spawn("frozen", &mut command, plane.logs())?;
        let pid = Pid::from_raw(frozen.pid().try_into()?).context("no process")?;
        eventually(SOON, "it writes", || async {
            let seen = count().await?;
            Ok(if seen > 20 { Look::Done(()) } else { Look::NotYet(format!("{seen} writes")) })
        })
        .await?;
        kill_process(pid, Signal::STOP)?;
        let two = candidate(manager, "frozen", "two").await?;
        two.election.acquire().await;
        let (before, held) = (count().await?, lease(&plane.client(), "frozen").await?);
        kill_process(pid, Signal::CONT)?;
        let ended = || async {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", frozen.pid()))?;
            let over = state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
            Ok(if over { Look::Done(()) } else { Look::NotYet(state) })
        };
        eventually(SOON, "it ends", ended).await?;
        let status = frozen.ended()?;
        ensure!(status.is_some_and(|status| status.success()), "{status:?}");
        ensure!(count().await? == before, "it wrote");
        ensure!(lease(&plane.client(), "frozen").await?.spec == held.spec, "it wrote the lease");
        Ok(())
    })
    .unwrap();
}
