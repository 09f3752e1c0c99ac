//! The description of a CA by its certificate.

use jiff::Timestamp;
use x509_parser::{certificate::X509Certificate, x509::AttributeTypeAndValue};

use crate::model::bundle::Bundle;

/// Validity, number and the parts of the name, each kind of part in the order of the certificate.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Description {
    /// First instant of its validity.
    pub not_before: Timestamp,
    /// Last instant of its validity.
    pub not_after: Timestamp,
    /// Serial number in upper-case hexadecimal without leading zeros.
    pub serial: String,
    /// CN
    pub common_name: String,
    /// C
    pub country: Vec<String>,
    /// O
    pub organization: Vec<String>,
    /// OU
    pub units: Vec<String>,
    /// L
    pub locality: Vec<String>,
    /// ST
    pub province: Vec<String>,
    /// STREET
    pub street: Vec<String>,
    /// postalCode
    pub postal_code: Vec<String>,
}

impl Description {
    pub(super) fn of(certificate: &X509Certificate<'_>, bundle: &Bundle) -> Self {
        let mut found = Self {
            not_before: bundle.leaf.not_before,
            not_after: bundle.leaf.not_after,
            serial: bundle.leaf.serial.trim_start_matches('0').to_ascii_uppercase(),
            ..Self::default()
        };
        certificate.subject().iter_attributes().for_each(|part| found.take(part));
        found
    }

    fn take(&mut self, part: &AttributeTypeAndValue<'_>) {
        let Ok(text) = part.as_str() else { return };
        let list = match part.attr_type().as_bytes() {
            [0x55, 0x04, 3] => {
                text.clone_into(&mut self.common_name);
                return;
            }
            [0x55, 0x04, 6] => &mut self.country,
            [0x55, 0x04, 7] => &mut self.locality,
            [0x55, 0x04, 8] => &mut self.province,
            [0x55, 0x04, 9] => &mut self.street,
            [0x55, 0x04, 10] => &mut self.organization,
            [0x55, 0x04, 11] => &mut self.units,
            [0x55, 0x04, 17] => &mut self.postal_code,
            _ => return,
        };
        list.push(text.to_owned());
    }
}
