//! Answers one query from the shared table. Everything but a plain query is refused.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use async_trait::async_trait;
use hickory_proto::{
    op::{Edns, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, RecordType},
};
use hickory_server::{
    net::runtime::Time,
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo},
    zone_handler::MessageResponseBuilder,
};
use tracing::debug;

use super::zone::{Reply, Table};

/// The table, shared by the server and the watch of entries.
pub struct Shared(RwLock<Table>);

impl Shared {
    /// Shares `table`.
    #[must_use]
    pub fn new(table: Table) -> Self {
        Self(RwLock::new(table))
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Handles queries.
#[derive(Clone)]
pub(super) struct Handler(Arc<Shared>);

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        response_handle: R,
    ) -> ResponseInfo {
        self.answer(request, response_handle).await
    }
}

impl Handler {
    pub(super) fn new(table: Arc<Shared>) -> Self {
        Self(table)
    }

    /// Answers `request` through `response_handle`.
    pub(super) async fn answer(
        &self,
        request: &Request,
        mut response_handle: impl ResponseHandler,
    ) -> ResponseInfo {
        let reply = reply(&self.0, request);
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = reply.authoritative;
        metadata.response_code = reply.code;
        let edns = request.edns.as_ref().map(|edns| edns_for(edns, reply.code));
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = &edns {
            builder.edns(edns);
        }
        let soa = [];
        let response =
            builder.build(metadata, &reply.answers, &reply.authority, &soa, &reply.additional);
        match response_handle.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                debug!(%error, "cannot send a DNS answer to {}", request.src());
                hickory_proto::op::Header {
                    metadata,
                    counts: hickory_proto::op::HeaderCounts::default(),
                }
                .into()
            }
        }
    }
}

fn reply(table: &Shared, request: &Request) -> Reply {
    let refuse = |code| Reply {
        code,
        authoritative: false,
        answers: vec![],
        authority: vec![],
        additional: vec![],
    };
    if request.metadata.op_code != OpCode::Query {
        return refuse(ResponseCode::NotImp);
    }
    if request.version() > 0 {
        return refuse(ResponseCode::BADVERS);
    }
    let Ok(info) = request.request_info() else { return refuse(ResponseCode::FormErr) };
    let question = info.query.original();
    match (question.query_class(), question.query_type()) {
        (_, RecordType::AXFR | RecordType::IXFR) => refuse(ResponseCode::Refused),
        (DNSClass::IN, kind) => table.read().answer(question.name(), kind),
        _ => refuse(ResponseCode::Refused),
    }
}

/// Our EDNS options. The payload size is limited to a size that needs no fragmentation, which also limits
/// amplification attacks.
fn edns_for(request: &Edns, code: ResponseCode) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(request.max_payload().clamp(512, MAX_DATAGRAM));
    edns.set_rcode_high(code.high());
    edns.set_dnssec_ok(request.flags().dnssec_ok);
    edns
}

const MAX_DATAGRAM: u16 = 1232;
