//! The tasks of the process: each has a name, none may end. The death of one ends the process, so
//! that whoever restarts it notices.

use std::{convert::Infallible, future::Future};

use tokio::task::JoinSet;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Tasks(JoinSet<&'static str>);

impl Tasks {
    /// Starts a task that never ends.
    pub fn run(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Infallible> + Send + 'static,
    ) {
        self.0.spawn(async move { match task.await {} });
        tracing::debug!("started {name}");
    }

    /// Starts a task that ends only when it fails.
    pub fn try_run(
        &mut self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        self.0.spawn(async move {
            if let Err(error) = task.await {
                tracing::error!("{name} failed: {error:#}");
            }
            name
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

    /// Waits until a task ends or panics, which is an error.
    ///
    /// # Errors
    /// Always: it names the task.
    pub async fn watch(&mut self) -> anyhow::Result<Infallible> {
        match self.0.join_next().await {
            Some(Ok(name)) => anyhow::bail!("the task {name} ended"),
            Some(Err(error)) => anyhow::bail!("a task died: {error}"),
            None => std::future::pending().await,
        }
    }
}
