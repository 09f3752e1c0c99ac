//! Runs blocking work in a task.
//!
//! All controllers and watches share two worker threads. Work that may take longer than a few
//! milliseconds must not block them.

use k8s_openapi::api::core::v1::Secret;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::api::secret::entry;

/// Maximum sizes of a key and a chain that are parsed on a worker thread, in bytes. An RSA key of 8192
/// bits, which a tenant may write, takes 50 ms of CPU time. An EC key takes microseconds.
const MAX_INLINE_KEY: usize = 1_024;
const MAX_INLINE_CHAIN: usize = 32 * 1_024;

/// Runs `work` while other tasks move to another thread. `work` must not hold a lock that they need.
pub fn heavy<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // Only tests have another runtime, each on its own thread.
        Ok(_) | Err(_) => work(),
    }
}

/// Parses the certificate or key in `secret` with `work`: directly if they are small, else like
/// [`heavy`].
pub fn reading<T>(secret: &Secret, work: impl FnOnce() -> T) -> T {
    let size = |name| entry(secret, name).len();
    match size("tls.key") <= MAX_INLINE_KEY && size("tls.crt") <= MAX_INLINE_CHAIN {
        true => work(),
        false => heavy(work),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Duration};

    use super::*;

    #[test]
    fn other_tasks_run_during_heavy_work() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
        let (done, wait) = channel();
        runtime.unwrap().block_on(async {
            let heavy =
                tokio::spawn(async move { heavy(|| wait.recv_timeout(Duration::from_secs(10))) });
            tokio::spawn(async move { done.send(()) }).await.unwrap().unwrap();
            assert_eq!(heavy.await.unwrap(), Ok(()));
        });
    }

    #[test]
    fn other_tasks_run_while_a_large_secret_is_read() {
        let secret = |name: &str, size: usize| Secret {
            data: Some([(name.to_owned(), k8s_openapi::ByteString(vec![b'x'; size]))].into()),
            ..Secret::default()
        };
        for (large, others_go_on) in [
            (secret("tls.key", MAX_INLINE_KEY + 1), true),
            (secret("tls.crt", MAX_INLINE_CHAIN + 1), true),
            (secret("ca.crt", MAX_INLINE_CHAIN + 1), false),
            (secret("tls.key", MAX_INLINE_KEY), false),
        ] {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
            let (done, wait) = channel();
            let deadline = Duration::from_millis(if others_go_on { 10_000 } else { 100 });
            let went_on = runtime.unwrap().block_on(async {
                let work = tokio::spawn(async move {
                    // It needs the thread that `reading` blocks.
                    tokio::spawn(async move { done.send(()) });
                    reading(&large, || wait.recv_timeout(deadline).is_ok())
                });
                work.await.unwrap()
            });
            assert_eq!(went_on, others_go_on);
        }
    }

    #[tokio::test]
    async fn heavy_work_runs_on_every_runtime() {
        assert_eq!(heavy(|| 7), 7);
    }
}
