//! Requests to the PowerDNS API.

use std::sync::Arc;

use ::http::{
    Method, Request,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{
    failure::{Failure, Target},
    server::Server,
    wire::{
        Change, Found, Patch, RecordSet, SetChange, TXT, ZoneInfo, ZoneRecords, absolute, is_name,
    },
};
use crate::{
    model::name::DnsName,
    net::{Http, HttpError},
    solve::SolveError,
};

/// The API of one server.
pub(super) struct Api {
    server: Server,
    http: Arc<dyn Http>,
}

/// A record set that was read with its whole zone.
pub(super) struct Listed {
    pub(super) set: RecordSet,
    /// The size of the answer.
    pub(super) bytes: usize,
}

/// The result of a change.
pub(super) enum Written {
    /// The server has made it.
    Done,
    /// An internal error: the server may make it when it is repeated.
    Failed(SolveError),
}

impl Api {
    pub(super) fn new(server: Server, http: Arc<dyn Http>) -> Self {
        Self { server, http }
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    /// The zone `name`, if the server has it. A server without this filter lists all its zones.
    pub(super) async fn zone(&self, name: &DnsName) -> Result<Option<ZoneInfo>, SolveError> {
        let path = format!("/zones?zone={}&dnssec=false", absolute(name));
        let zones: Result<(Vec<ZoneInfo>, _), _> = self.get(&path).await;
        let (zones, _) = zones.map_err(|e| e.explain(&self.server, Target::Zones))?;
        Ok(zones.into_iter().find(|zone| is_name(&zone.name, name)))
    }

    /// The TXT records of `name`, disabled ones too, from a list of the whole `zone`. `None` if the
    /// zone is too large for one answer.
    pub(super) async fn listed(
        &self,
        zone: &DnsName,
        name: &DnsName,
    ) -> Result<Option<Listed>, SolveError> {
        match self.get(&format!("/zones/{}", absolute(zone))).await {
            Ok((records, bytes)) => Ok(Some(Listed { set: pick(records, name), bytes })),
            Err(Failure::Transport(HttpError::TooLarge { .. })) => Ok(None),
            Err(error) => Err(error.explain(&self.server, Target::Zone(zone))),
        }
    }

    /// The enabled TXT records of `name`. Since PowerDNS 4.9 possibly disabled ones too; a server
    /// without this filter lists the whole zone.
    pub(super) async fn record_set(
        &self,
        zone: &DnsName,
        name: &DnsName,
    ) -> Result<RecordSet, SolveError> {
        let (zone_id, name_id) = (absolute(zone), absolute(name));
        let path = format!("/zones/{zone_id}?rrset_name={name_id}&rrset_type={TXT}");
        let records = self.get(&path).await;
        let (records, _) = records.map_err(|e| e.explain(&self.server, Target::Zone(zone)))?;
        Ok(pick(records, name))
    }

    /// The disabled TXT records of `name`. A backend without search has none that can be found.
    pub(super) async fn disabled(
        &self,
        zone: &DnsName,
        name: &DnsName,
    ) -> Result<Vec<Found>, SolveError> {
        let path = format!("/search-data?q={name}&max={MAX_FOUND}&object_type=record");
        let found: Vec<Found> = match self.get(&path).await {
            Ok((found, _)) => found,
            Err(Failure::Status(status, _)) if matches!(status.as_u16(), 404 | 405 | 422 | 501) => {
                Vec::new()
            }
            Err(error) => return Err(error.explain(&self.server, Target::Zone(zone))),
        };
        let is_wanted = |found: &Found| {
            found.record.disabled
                && found.kind == TXT
                && is_name(&found.name, name)
                && is_name(&found.zone, zone)
        };
        Ok(found.into_iter().filter(is_wanted).collect())
    }

    /// Changes the TXT records of `name`.
    pub(super) async fn patch(
        &self,
        zone: &DnsName,
        name: &DnsName,
        change: &Change,
    ) -> Result<Written, SolveError> {
        let set = SetChange { name: absolute(name), kind: TXT, change };
        let body = serde_json::to_vec(&Patch { rrsets: [set] }).unwrap_or_default();
        let path = format!("/zones/{}", absolute(zone));
        let Err(error) = self.send(Method::PATCH, &path, body.into()).await else {
            return Ok(Written::Done);
        };
        let is_fault = matches!(&error, Failure::Status(status, _) if status.as_u16() == 500);
        let error = error.explain(&self.server, Target::Zone(zone));
        if is_fault { Ok(Written::Failed(error)) } else { Err(error) }
    }

    /// The value in an answer, and the size of the answer.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<(T, usize), Failure> {
        let body = self.send(Method::GET, path, Bytes::new()).await?;
        let value = serde_json::from_slice(&body).map_err(|_| Failure::Syntax)?;
        Ok((value, body.len()))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, Failure> {
        let json = HeaderValue::from_static("application/json");
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.server.api()).parse().map_err(|_| {
            let reason = "its URL is not valid".to_owned();
            Failure::Transport(HttpError::Unreachable { host: self.server.url.clone(), reason })
        })?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, json.clone());
        headers.insert(CONTENT_TYPE, json);
        if let Some(key) = self.server.key.header() {
            headers.insert("x-api-key", key);
        }
        let response = self.http.send(request).await.map_err(Failure::Transport)?;
        let (head, body) = response.into_parts();
        if head.status.is_success() { Ok(body) } else { Err(Failure::Status(head.status, body)) }
    }
}

/// The TXT records of `name`.
fn pick(zone: ZoneRecords, name: &DnsName) -> RecordSet {
    let is_wanted = |set: &RecordSet| set.kind == TXT && is_name(&set.name, name);
    zone.rrsets.into_iter().find(is_wanted).unwrap_or_default()
}

/// More records than one name has.
const MAX_FOUND: usize = 1000;
