//! Work that takes a while, in the middle of a pass.
//!
//! The process has two threads for all passes, health checks and watches. What may take longer than
//! a few milliseconds gives its place to another thread first, so that nobody waits for it.

use k8s_openapi::api::core::v1::Secret;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::api::secret::entry;

/// Longest key and chain that are read where others wait for the thread, in bytes. An RSA key of
/// 8192 bits, which a tenant may put there, takes 50 ms of processor time; an EC key takes nothing.
const QUICK_KEY: usize = 1_024;
const QUICK_CHAIN: usize = 32 * 1_024;

/// Does `work` while other tasks go on elsewhere. Inside, no lock may be held that they wait for.
pub fn heavy<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A test, on a thread of its own.
        Ok(_) | Err(_) => work(),
    }
}

/// Reads the certificate or key in `secret` by `work`: at once where they are so small that it takes no
/// time.
pub fn reading<T>(secret: &Secret, work: impl FnOnce() -> T) -> T {
    let size = |name| entry(secret, name).len();
    match size("tls.key") <= QUICK_KEY && size("tls.crt") <= QUICK_CHAIN {
        true => work(),
        false => heavy(work),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Duration};

    use super::*;

    #[test]
    fn others_go_on_while_every_thread_has_heavy_work() {
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
    fn what_is_large_in_a_secret_is_read_while_others_go_on() {
        let secret = |name: &str, size: usize| Secret {
            data: Some([(name.to_owned(), k8s_openapi::ByteString(vec![b'x'; size]))].into()),
            ..Secret::default()
        };
        for (large, others_go_on) in [
            (secret("tls.key", QUICK_KEY + 1), true),
            (secret("tls.crt", QUICK_CHAIN + 1), true),
            (secret("ca.crt", QUICK_CHAIN + 1), false),
            (secret("tls.key", QUICK_KEY), false),
        ] {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build();
            let (done, wait) = channel();
            let patience = Duration::from_millis(if others_go_on { 10_000 } else { 100 });
            let went_on = runtime.unwrap().block_on(async {
                let work = tokio::spawn(async move {
                    // By then it waits for a thread.
                    tokio::spawn(async move { done.send(()) });
                    reading(&large, || wait.recv_timeout(patience).is_ok())
                });
                work.await.unwrap()
            });
            assert_eq!(went_on, others_go_on);
        }
    }

    #[tokio::test]
    async fn work_is_done_on_any_runtime() {
        assert_eq!(heavy(|| 7), 7);
    }
}
