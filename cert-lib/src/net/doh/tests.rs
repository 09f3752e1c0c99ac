use std::sync::Mutex;

use hickory_proto::{
    op::ResponseCode,
    rr::{RData, Record as WireRecord, rdata::TXT},
};

use super::*;
use crate::net::{HttpError, Record, dns::Udp};

const URL: &str = "https://dns.operator.test/dns-query";

/// Answers each request as `reply` says, and keeps the requests.
struct DohServer<F> {
    reply: F,
    requests: Mutex<Vec<Request<Bytes>>>,
}

#[async_trait]
impl<F> Http for DohServer<F>
where
    F: Fn(&Message) -> Result<Response<Bytes>, HttpError> + Send + Sync,
{
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let reply = (self.reply)(&Message::from_vec(request.body()).unwrap());
        self.requests.lock().unwrap().push(request);
        reply
    }
}

type Reply = fn(&Message) -> Result<Response<Bytes>, HttpError>;

fn server(reply: Reply) -> Arc<DohServer<Reply>> {
    Arc::new(DohServer { reply, requests: Mutex::default() })
}

async fn query(http: &Arc<DohServer<Reply>>) -> Result<Answer, ResolveError> {
    let doh = Doh::new(Arc::new(Udp::with_servers(vec![])), http.clone());
    let name = "_acme-challenge.example.org".parse().unwrap();
    doh.ask(&Server::Https(URL.into()), &name, RecordKind::Txt).await
}

fn message(question: &Message) -> Message {
    let mut message = question.clone().into_response();
    let name = question.queries[0].name().clone();
    let text = RData::TXT(TXT::new(vec!["a".to_owned(), "b".to_owned()]));
    message.add_answer(WireRecord::from_rdata(name, 1, text));
    message
}

fn response(status: u16, media_type: &str, body: Vec<u8>) -> Result<Response<Bytes>, HttpError> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, media_type);
    Ok(response.body(body.into()).unwrap())
}

fn wire(message: &Message) -> Result<Response<Bytes>, HttpError> {
    response(200, DNS_MESSAGE, message.to_vec().unwrap())
}

#[tokio::test]
async fn a_question_is_posted_and_its_answer_read() {
    let http = server(|question| {
        response(200, "Application/DNS-Message; x=y", message(question).to_vec().unwrap())
    });
    let answer = query(&http).await.unwrap();
    assert_eq!(answer.records, [Record::Text("ab".to_owned())]);
    let requests = http.requests.lock().unwrap();
    let request = &requests[0];
    assert_eq!((request.method().as_str(), request.uri().to_string()), ("POST", URL.to_owned()));
    assert_eq!(request.headers()[CONTENT_TYPE], DNS_MESSAGE);
    assert_eq!(request.headers()[ACCEPT], DNS_MESSAGE);
    let question = Message::from_vec(request.body()).unwrap();
    assert_eq!(question.metadata.id, 0);
    assert!(question.metadata.recursion_desired);
}

#[tokio::test]
async fn fault_39_a_useless_answer_over_https_names_the_server_and_the_reason() {
    let cases: [(Reply, &str); 9] = [
        (|_| response(404, "text/html", vec![]), "HTTP status 404 instead of 200"),
        (|_| response(302, DNS_MESSAGE, vec![]), "HTTP status 302"),
        (|_| response(200, "text/html", vec![]), "is not of type application/dns-message"),
        (|_| response(200, DNS_MESSAGE, vec![0; 65536]), "larger than a DNS message"),
        (|_| response(200, DNS_MESSAGE, vec![0xff; 40]), "a malformed DNS message"),
        (|question| wire(question), "no answer to the question"),
        (
            |question| {
                let mut other = message(question);
                other.metadata.id = 1;
                wire(&other)
            },
            "no answer to the question",
        ),
        (
            |question| {
                let mut cut = message(question);
                cut.metadata.truncation = true;
                wire(&cut)
            },
            "a truncated answer",
        ),
        (
            |_| Err(HttpError::TimedOut { host: "dns.operator.test".to_owned(), seconds: 30 }),
            "no answer from dns.operator.test",
        ),
    ];
    for (reply, want) in cases {
        let error = query(&server(reply)).await.unwrap_err().to_string();
        let start = format!("name server {URL} does not answer: ");
        assert!(error.starts_with(&start) && error.contains(want), "{want}: {error}");
    }
    let failed = server(|question| {
        let mut failed = question.clone().into_response();
        failed.metadata.response_code = ResponseCode::ServFail;
        wire(&failed)
    });
    let error = query(&failed).await.unwrap_err().to_string();
    assert_eq!(error, format!("name server {URL} answers SERVFAIL"));
}

/// Never answers.
struct Silence;

#[async_trait]
impl Http for Silence {
    async fn send(&self, _: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_over_https_costs_its_deadline() {
    let doh = Doh::new(Arc::new(Udp::with_servers(vec![])), Arc::new(Silence));
    let name = "_acme-challenge.example.org".parse().unwrap();
    let error = doh.query_https(&URL.into(), &name, RecordKind::Txt).await.unwrap_err();
    assert!(error.to_string().ends_with("does not answer: nothing within 10 s"), "{error}");
}

#[tokio::test]
async fn without_the_adapter_a_server_over_https_is_refused_with_the_reason() {
    let name = "_acme-challenge.example.org".parse().unwrap();
    let plain = Udp::with_servers(vec![]);
    let error = plain.ask(&Server::Https(URL.into()), &name, RecordKind::Txt).await.unwrap_err();
    assert!(error.to_string().contains("DNS over HTTPS is not supported here"), "{error}");
}
