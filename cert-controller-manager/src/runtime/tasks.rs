//! The named tasks of the process. None of them may end: the failure of a task ends the process, so
//! that it is restarted.

use std::{convert::Infallible, future::Future};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

/// Starts tasks. They are cancelled when this is dropped.
#[derive(Debug)]
pub struct Tasks {
    running: JoinSet<()>,
    failures: UnboundedSender<&'static str>,
}

/// Receives the names of ended tasks.
#[derive(Debug)]
pub struct TaskFailures(UnboundedReceiver<&'static str>);

/// Reports the end of a task, including panics.
struct FailureOnDrop {
    name: &'static str,
    failures: UnboundedSender<&'static str>,
}

impl Drop for FailureOnDrop {
    fn drop(&mut self) {
        // The receiver is gone when the process ends.
        let _ = self.failures.send(self.name);
    }
}

impl Tasks {
    /// An empty set of tasks.
    #[must_use]
    pub fn new() -> (Self, TaskFailures) {
        let (failures, receiver) = unbounded_channel();
        (Self { running: JoinSet::new(), failures }, TaskFailures(receiver))
    }

    /// Starts a task that never returns.
    pub fn run(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Infallible> + Send + 'static,
    ) {
        self.spawn(name, async move { match task.await {} });
    }

    /// Starts a task that returns only an error.
    pub fn try_run(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.spawn(name, async move {
            if let Err(error) = task.await {
                tracing::error!("{name} failed: {error:#}");
            }
        });
    }

    /// Starts a task that may end successfully. Only an error counts as its end.
    pub fn once(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.try_run(name, async move {
            task.await?;
            std::future::pending().await
        });
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let failure = FailureOnDrop { name, failures: self.failures.clone() };
        self.running.spawn(async move {
            let _failure = failure;
            task.await;
        });
        tracing::debug!("started {name}");
    }
}

impl TaskFailures {
    /// Waits until a task ends or panics.
    ///
    /// # Errors
    /// Always; the message names the task.
    pub async fn wait(&mut self) -> anyhow::Result<Infallible> {
        match self.0.recv().await {
            Some(name) => anyhow::bail!("the task {name} has ended"),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_or_panics_is_reported_by_name() {
        let (mut tasks, mut failures) = Tasks::new();
        tasks.run("lives", std::future::pending());
        tasks.once("done", async { Ok(()) });
        tasks.try_run("fails", async { anyhow::bail!("a reason") });
        let error = failures.wait().await.unwrap_err().to_string();
        assert_eq!(error, "the task fails has ended");
        tasks.run("panics", async { panic!("a defect") });
        let error = failures.wait().await.unwrap_err().to_string();
        assert_eq!(error, "the task panics has ended");
    }
}
