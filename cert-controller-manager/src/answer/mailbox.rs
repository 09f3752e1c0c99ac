//! The mailbox of a zone's administrator, for the field RNAME of SOA records.

use std::{fmt, str::FromStr};

use cert_lib::model::name::DnsName;
use hickory_proto::rr::Name;

/// An email address as a DNS name: the local part is the first label (RFC 1035 section 8).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mailbox(Name);

/// Why a text is no mailbox.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is no mailbox: {why}; write hostmaster@example.org or hostmaster.example.org")]
pub struct MailboxError {
    text: String,
    why: String,
}

impl Mailbox {
    pub(super) fn name(&self) -> &Name {
        &self.0
    }
}

impl FromStr for Mailbox {
    type Err = MailboxError;

    fn from_str(text: &str) -> Result<Self, MailboxError> {
        let wrong = |why: &dyn fmt::Display| MailboxError {
            text: text.chars().take(80).collect(),
            why: why.to_string(),
        };
        let labels = match text.split_once('@') {
            None => {
                let name: DnsName = text.parse().map_err(|why| wrong(&why))?;
                if name.is_wildcard() || name.parent().is_none() {
                    return Err(wrong(&"it has no domain after the first label"));
                }
                labels(&name)
            }
            Some((local, domain)) => {
                let allowed = |c: char| c.is_ascii_graphic() && !"\"(),:;<>[]@\\".contains(c);
                if local.is_empty() || local.len() > MAX_LABEL || !local.chars().all(allowed) {
                    return Err(wrong(
                        &"the part before @ is not plain ASCII of 1 to 63 characters",
                    ));
                }
                let domain: DnsName = domain.parse().map_err(|why| wrong(&why))?;
                if domain.is_wildcard() {
                    return Err(wrong(&"the domain is a wildcard"));
                }
                [vec![local.as_bytes().to_vec()], labels(&domain)].concat()
            }
        };
        let name = Name::from_labels(labels).map_err(|_| wrong(&"it is too long"))?;
        Ok(Self(name))
    }
}

fn labels(name: &DnsName) -> Vec<Vec<u8>> {
    name.as_str().split('.').map(|label| label.as_bytes().to_vec()).collect()
}

/// RFC 1035 section 2.3.4
const MAX_LABEL: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_an_address_or_a_name() {
        for (text, name) in [
            ("hostmaster@example.org", Ok("hostmaster.example.org.")),
            ("hostmaster.example.org", Ok("hostmaster.example.org.")),
            ("jo.doe@Example.org.", Ok("jo\\.doe.example.org.")),
            ("dns+acme@example.org", Ok("dns\\+acme.example.org.")),
            ("", Err("a DNS name must not be empty")),
            ("hostmaster", Err("no domain after the first label")),
            ("*.example.org", Err("no domain after the first label")),
            ("@example.org", Err("the part before @")),
            ("a b@example.org", Err("the part before @")),
            ("a@b@example.org", Err("b@example.org has a character")),
            ("a@*.example.org", Err("the domain is a wildcard")),
            ("a@", Err("a DNS name must not be empty")),
        ] {
            let parsed = text.parse::<Mailbox>();
            match (parsed, name) {
                (Ok(mailbox), Ok(name)) => assert_eq!(mailbox.name().to_ascii(), name, "{text}"),
                (Err(error), Err(why)) => {
                    let error = error.to_string();
                    assert!(error.contains(why) && error.contains("write hostmaster@"), "{error}");
                }
                (parsed, _) => panic!("{text}: {parsed:?}"),
            }
        }
        let long = format!("{}@{}.example.org", "a".repeat(63), vec!["b".repeat(60); 3].join("."));
        assert!(long.parse::<Mailbox>().unwrap_err().to_string().contains("too long"));
    }
}
