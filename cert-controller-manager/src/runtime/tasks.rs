//! The tasks of the process: each has a name, none may end. The death of one ends the process, so
//! that whoever restarts it notices.

use std::{convert::Infallible, future::Future};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

/// Starts tasks. They end when this is dropped.
#[derive(Debug)]
pub struct Tasks {
    running: JoinSet<()>,
    deaths: UnboundedSender<&'static str>,
}

/// Hears when a task ends, from the first one on.
#[derive(Debug)]
pub struct TaskFailures(UnboundedReceiver<&'static str>);

/// Tells the end of a task, whichever way it ends.
struct FailureOnDrop {
    name: &'static str,
    deaths: UnboundedSender<&'static str>,
}

impl Drop for FailureOnDrop {
    fn drop(&mut self) {
        // Nobody listens any more when the process ends.
        let _ = self.deaths.send(self.name);
    }
}

impl Tasks {
    /// No task yet.
    #[must_use]
    pub fn new() -> (Self, TaskFailures) {
        let (deaths, heard) = unbounded_channel();
        (Self { running: JoinSet::new(), deaths }, TaskFailures(heard))
    }

    /// Starts a task that never ends.
    pub fn run(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Infallible> + Send + 'static,
    ) {
        self.spawn(name, async move { match task.await {} });
    }

    /// Starts a task that ends only when it fails.
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

    /// Starts a task that may end well; only its failure is an end.
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
        let obituary = FailureOnDrop { name, deaths: self.deaths.clone() };
        self.running.spawn(async move {
            let _obituary = obituary;
            task.await;
        });
        tracing::debug!("started {name}");
    }
}

impl TaskFailures {
    /// Waits until a task ends or panics, which is an error.
    ///
    /// # Errors
    /// Always: it names the task.
    pub async fn wait(&mut self) -> anyhow::Result<Infallible> {
        match self.0.recv().await {
            Some(name) => anyhow::bail!("the task {name} ended"),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_fails_or_panics_is_told_by_name() {
        let (mut tasks, mut deaths) = Tasks::new();
        tasks.run("lives", std::future::pending());
        tasks.once("done", async { Ok(()) });
        tasks.try_run("fails", async { anyhow::bail!("a reason") });
        let told = deaths.wait().await.unwrap_err().to_string();
        assert_eq!(told, "the task fails ended");
        tasks.run("panics", async { panic!("a defect") });
        let told = deaths.wait().await.unwrap_err().to_string();
        assert_eq!(told, "the task panics ended");
    }
}
