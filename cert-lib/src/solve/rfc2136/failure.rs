//! What the response codes of a name server mean, and what to do. Pure.

use hickory_proto::op::{Message, ResponseCode};

use super::{
    tsig::{Flaw, TsigKey, ahead},
    wire::TsigRecord,
};
use crate::{model::name::DnsName, net::dns::exchange::code_name, solve::SolveError};

/// How far an answer can be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trust {
    /// The signature is correct, or there is no key.
    Full,
    /// It has no signature, although the request has one.
    Unsigned,
    /// It has a wrong signature.
    Flawed(Flaw),
    /// The server does not accept the signature of the request. Such answers cannot be signed.
    Refused(Refusal),
}

/// Why a server does not accept a signature (RFC 8945 section 5.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    BadSignature,
    BadKey,
    BadTime {
        /// By how many seconds the server's clock is ahead of ours, if it says so.
        ahead: Option<i64>,
    },
    BadTruncation,
    Other(u16),
}

/// What was asked of which server.
pub(super) struct Attempt<'a> {
    pub server: &'a str,
    pub key: Option<&'a TsigKey>,
    pub fqdn: &'a DnsName,
    /// The zone of an update, `None` for a question.
    pub zone: Option<&'a DnsName>,
}

impl Refusal {
    /// The refusal that the signature of an answer contains.
    pub(super) fn of(record: &TsigRecord, now: u64) -> Option<Self> {
        match record.error {
            0 => None,
            16 => Some(Self::BadSignature),
            17 => Some(Self::BadKey),
            18 => {
                let time = match record.other.as_slice() {
                    [a, b, c, d, e, f] => Some(u64::from_be_bytes([0, 0, *a, *b, *c, *d, *e, *f])),
                    _ => None,
                };
                Some(Self::BadTime { ahead: time.map(|time| ahead(time, now)) })
            }
            22 => Some(Self::BadTruncation),
            other => Some(Self::Other(other)),
        }
    }
}

impl Attempt<'_> {
    /// Whether the server did what was asked: `Ok` for NOERROR, and in a question for NXDOMAIN.
    ///
    /// An update without a signed confirmation may have been dropped or answered by someone else.
    /// An unsigned answer to a question is accepted, because some servers sign updates only, and a
    /// wrong one makes the update fail.
    pub(super) fn check(&self, message: &Message, trust: Trust) -> Result<(), SolveError> {
        let code = message.metadata.response_code;
        match trust {
            Trust::Refused(refusal) => return Err(self.refused(refusal)),
            Trust::Flawed(flaw) => return Err(self.flawed(flaw)),
            Trust::Full | Trust::Unsigned => {}
        }
        match (code, self.zone) {
            (ResponseCode::NoError, Some(_)) if trust == Trust::Unsigned => {
                Err(SolveError::Misconfigured(format!(
                    "name server {} confirms the update of {} without the TSIG signature that the \
                     update had: set nameserver to a server that supports TSIG",
                    self.server, self.fqdn
                )))
            }
            (ResponseCode::NoError, _) | (ResponseCode::NXDomain, None) => Ok(()),
            (code, Some(zone)) => Err(self.update_failed(code, zone, trust)),
            (code, None) => Err(self.question_failed(code)),
        }
    }

    fn refused(&self, refusal: Refusal) -> SolveError {
        let Self { server, .. } = self;
        let key = self.key_name();
        let text = match refusal {
            Refusal::BadKey => format!(
                "name server {server} does not know the TSIG key {key} (BADKEY), or does not permit \
                 it to update {}: compare tsigKeyName and tsigAlgorithm with its configuration, \
                 and in Knot the acl of the zone",
                self.fqdn
            ),
            Refusal::BadSignature => format!(
                "name server {server} has another secret for the TSIG key {key} (BADSIG): compare \
                 tsigSecretSecretRef and tsigAlgorithm with its configuration"
            ),
            Refusal::BadTime { ahead } => return SolveError::Unavailable(self.bad_time(ahead)),
            Refusal::BadTruncation => format!(
                "name server {server} requires longer signatures than those of the TSIG key {key} \
                 (BADTRUNC): use another tsigAlgorithm"
            ),
            Refusal::Other(code) => format!(
                "name server {server} does not accept the TSIG key {key} (code {code}): compare \
                 tsigKeyName, tsigAlgorithm and tsigSecretSecretRef with its configuration"
            ),
        };
        SolveError::CredentialRefused(text)
    }

    fn flawed(&self, flaw: Flaw) -> SolveError {
        let Self { server, .. } = self;
        let key = self.key_name();
        let text = match flaw {
            Flaw::OtherKey => format!(
                "name server {server} signs its answer with another key than {key}: check for a \
                 DNS proxy between it and this manager"
            ),
            Flaw::BadMac => format!(
                "the answer of name server {server} has a wrong signature of the TSIG key {key}: \
                 check for a DNS proxy between it and this manager"
            ),
            Flaw::BadTime { ahead } => self.bad_time(Some(ahead)),
        };
        SolveError::Unavailable(text)
    }

    fn bad_time(&self, ahead: Option<i64>) -> String {
        let difference = match ahead {
            Some(ahead) if ahead < 0 => format!("is {} s behind", ahead.unsigned_abs()),
            Some(ahead) => format!("is {ahead} s ahead of"),
            None => "differs by more than the permitted time from".to_owned(),
        };
        format!(
            "the clock of name server {} {difference} the clock of this manager (BADTIME): \
             synchronize both",
            self.server
        )
    }

    fn update_failed(&self, code: ResponseCode, zone: &DnsName, trust: Trust) -> SolveError {
        let Self { server, fqdn, .. } = self;
        let text = match code {
            ResponseCode::ServFail => {
                return SolveError::Unavailable(format!(
                    "name server {server} failed to update zone {zone} (SERVFAIL): its log has the \
                     reason, for example a zone that is not loaded or a file that it cannot write"
                ));
            }
            // The answer of a server that does not accept the key, or is no primary.
            ResponseCode::NotAuth if self.key.is_some() && trust == Trust::Unsigned => {
                return SolveError::CredentialRefused(self.rejected(code, zone, trust));
            }
            ResponseCode::Refused | ResponseCode::NotAuth => self.rejected(code, zone, trust),
            ResponseCode::FormErr => format!(
                "name server {server} does not understand the update of {fqdn} (FORMERR): set \
                 nameserver to a server that supports RFC 2136"
            ),
            ResponseCode::NotImp => format!(
                "name server {server} does not support dynamic updates (NOTIMP): enable them \
                 there, or set nameserver to a server that supports RFC 2136"
            ),
            ResponseCode::NotZone => format!(
                "name server {server} answers that {fqdn} is outside of zone {zone} (NOTZONE): \
                 correct zone, or remove it to have the zone found"
            ),
            ResponseCode::YXRRSet => format!(
                "{fqdn} has a CNAME in zone {zone}, beside which no record can be published \
                 (YXRRSET): set cnameStrategy: Follow, or remove the CNAME"
            ),
            other => format!(
                "name server {server} does not update {fqdn} in zone {zone} ({}): its log has the \
                 reason",
                code_name(other)
            ),
        };
        SolveError::Misconfigured(text)
    }

    /// REFUSED or NOTAUTH for an update.
    fn rejected(&self, code: ResponseCode, zone: &DnsName, trust: Trust) -> String {
        let Self { server, fqdn, .. } = self;
        let key = self.key_name();
        match (code, self.key.is_some()) {
            (ResponseCode::Refused, true) => format!(
                "name server {server} does not permit the TSIG key {key} to update {fqdn} in zone \
                 {zone} (REFUSED): permit it there, in BIND by update-policy or allow-update"
            ),
            (ResponseCode::Refused, false) => format!(
                "name server {server} does not permit unsigned updates of {fqdn} in zone {zone} \
                 (REFUSED): set tsigKeyName, tsigAlgorithm and tsigSecretSecretRef"
            ),
            (_, true) if trust == Trust::Unsigned => format!(
                "name server {server} is not authoritative for zone {zone}, or does not accept the \
                 TSIG key {key} (NOTAUTH): set nameserver to the primary of the zone, compare \
                 tsigKeyName, tsigAlgorithm and the secret with its configuration, and the clocks"
            ),
            (_, false) => format!(
                "name server {server} is not the primary of zone {zone}, or does not permit \
                 unsigned updates (NOTAUTH): correct zone, set nameserver to the primary, or set \
                 tsigKeyName, tsigAlgorithm and tsigSecretSecretRef"
            ),
            (_, true) => format!(
                "name server {server} is not the primary of zone {zone} (NOTAUTH): correct zone, \
                 or set nameserver to the primary"
            ),
        }
    }

    fn question_failed(&self, code: ResponseCode) -> SolveError {
        let Self { server, fqdn, .. } = self;
        let text = match code {
            ResponseCode::NotAuth if self.key.is_some() => format!(
                "name server {server} does not accept the TSIG key {} (NOTAUTH): compare \
                 tsigKeyName, tsigAlgorithm and tsigSecretSecretRef with its configuration, and \
                 the clocks",
                self.key_name()
            ),
            other => format!(
                "name server {server} answers {} to a question for the zone of {fqdn}",
                code_name(other)
            ),
        };
        match code {
            ResponseCode::ServFail => SolveError::Unavailable(text),
            ResponseCode::NotAuth if self.key.is_some() => SolveError::CredentialRefused(text),
            _ => SolveError::Misconfigured(text),
        }
    }

    fn key_name(&self) -> String {
        self.key.map(|key| format!("{:?}", key.name().as_str())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
