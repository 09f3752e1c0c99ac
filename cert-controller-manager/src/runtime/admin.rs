//! The administration port: `/healthz`, `/readyz` and `/metrics`.
//!
//! The port is open to the network. Therefore a connection serves one request within fixed limits,
//! and a new connection replaces the oldest one if there are too many (see [`serve`]).

pub mod authorization;
pub mod heartbeat;
pub mod readiness;
mod serve;

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Context;
use axum::{
    Router,
    extract::State,
    http::{HeaderName, StatusCode, header::CONTENT_TYPE},
    middleware::from_fn_with_state,
    routing::get,
};
use tokio::net::TcpListener;

use self::authorization::check;
pub use self::{
    authorization::Authorizer,
    heartbeat::{Heartbeat, HeartbeatState},
    readiness::Readiness,
};
use crate::runtime::metrics::Metrics;

/// The data that the port serves.
#[derive(Clone)]
pub struct Admin {
    /// Liveness of the controllers, for `/healthz`.
    pub heartbeats: HeartbeatState,
    /// Conditions for `/readyz`.
    pub readiness: Readiness,
    /// Metrics for `/metrics`.
    pub metrics: Metrics,
    /// Authorizes readers of `/metrics`; `None` allows every client. Created by the thread that serves
    /// the port.
    pub authorizer: Option<Authorizer>,
}

/// Opens the port.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "--server-port-http: cannot listen on {address}; choose a free port, or an address of \
             this machine for --bind-address-http"
        )
    })
}

impl Admin {
    /// Serves the port. Never returns.
    pub async fn serve(self, listener: TcpListener) -> Infallible {
        serve::serve(listener, self.router(), serve::Limits::default()).await
    }

    fn router(self) -> Router {
        let metrics = match self.authorizer.clone() {
            Some(authorizer) => get(metrics).layer(from_fn_with_state(authorizer, check)),
            None => get(metrics),
        };
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", metrics)
            .with_state(self)
    }
}

type Page = (StatusCode, [(HeaderName, &'static str); 1], String);

async fn healthz(State(admin): State<Admin>) -> Page {
    let health = admin.heartbeats.examine();
    let status = if health.is_alive() { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    text(status, health.to_string())
}

async fn readyz(State(admin): State<Admin>) -> Page {
    let report = admin.readiness.examine();
    let status = if report.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, report.to_string())
}

async fn metrics(State(admin): State<Admin>) -> Page {
    // Counting visits every Certificate, which would block an async worker.
    match tokio::task::spawn_blocking(move || admin.metrics.page()).await {
        Ok(Ok(page)) => (StatusCode::OK, [(CONTENT_TYPE, EXPOSITION)], page),
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Page {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], body)
}

const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests;
