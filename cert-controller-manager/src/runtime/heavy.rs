//! Work that takes a while, in the middle of a pass.
//!
//! The process has two threads for all passes, health checks and watches. What may take longer than
//! a few milliseconds gives its place to another thread first, so that nobody waits for it.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Does `work` while other tasks go on elsewhere. Inside, no lock may be held that they wait for.
pub fn heavy<T>(work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A test, on a thread of its own.
        Ok(_) | Err(_) => work(),
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

    #[tokio::test]
    async fn work_is_done_on_any_runtime() {
        assert_eq!(heavy(|| 7), 7);
    }
}
