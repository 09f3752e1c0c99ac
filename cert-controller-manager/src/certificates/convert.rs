//! A Certificate's specification becomes what the engine works on. Pure; parsed once per pass.

use cert_lib::{
    model::{
        key::KeyType,
        name::DnsName,
        request::{Csr, Fingerprint, Ingredients, Refusal, Request, Subject, addresses, names},
    },
    plan::Want,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::{
    api::{
        Certificate, CertificateKey, ObjectKey,
        certificate::{CertificateSpec, KeyAlgorithm, PrivateKeySpec},
        marks,
    },
    certificates::{
        consent::{Consent, Consents},
        syntax,
    },
    config::{CertificateSettings, duration},
};

/// Shortest `renewBefore`, as upstream has it.
const MIN_RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(5);

/// What the Certificate asks for.
#[must_use]
pub fn want(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    consents: &Consents,
) -> Want {
    let spec = &certificate.spec;
    let renewal = renew_before(spec).and_then(|window| Ok((window, renewed_after(spec)?)));
    let (renew_before, renewed_after) = renewal.clone().unwrap_or_default();
    Want {
        request: renewal
            .and_then(|_| check_secret(key, certificate, settings, consents))
            .and_then(|()| request(key, certificate, settings)),
        renew: spec.renew == Some(true),
        renewed_after,
        renew_before,
    }
}

/// The Secret that the Certificate's result goes to. Where the Certificate names none, the name is
/// made from its own and its uid: the same after a crash, and nobody else's.
#[must_use]
pub fn secret_key(certificate: &Certificate) -> ObjectKey {
    let spec = &certificate.spec;
    let own = certificate.namespace().unwrap_or_default();
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let reference = spec.secret_ref.as_ref();
    let name = reference
        .and_then(|reference| some(&reference.name))
        .or_else(|| some(&spec.secret_name))
        .unwrap_or_else(|| {
            let uid: String = certificate.uid().unwrap_or_default().chars().take(8).collect();
            let head: String = certificate.name_any().chars().take(240).collect();
            format!("{head}-{uid}")
        });
    let namespace = reference.and_then(|reference| some(&reference.namespace)).unwrap_or(own);
    ObjectKey { namespace, name }
}

/// The name of the issuer in the issuer namespace, or why no issuer there is meant.
///
/// # Errors
/// When the Certificate names an issuer elsewhere: a reference with a namespace means exactly that
/// namespace, and only the trusted one is served.
pub fn issuer_name(
    certificate: &Certificate,
    settings: &CertificateSettings,
) -> Result<String, String> {
    let Some(reference) = certificate.spec.issuer_ref.as_ref().filter(|it| !it.name.is_empty())
    else {
        return Ok(settings.default_issuer.clone());
    };
    match reference.namespace.as_deref().unwrap_or_default() {
        "" => Ok(reference.name.clone()),
        namespace if namespace == settings.issuer_namespace => Ok(reference.name.clone()),
        namespace => Err(format!(
            "target issuers not allowed: issuer {namespace}/{} is not in the issuer namespace {}",
            reference.name, settings.issuer_namespace
        )),
    }
}

fn request(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
) -> Result<Request, Refusal> {
    let spec = &certificate.spec;
    if spec.duration.is_some() {
        return Err(Refusal::Other("duration cannot be set for ACME certificate".to_owned()));
    }
    if spec.is_ca.is_some() {
        return Err(Refusal::Other("isCA cannot be set for ACME certificate".to_owned()));
    }
    let common_name = spec.common_name.as_deref().filter(|name| !name.is_empty());
    let dns_names = spec.dns_names.as_deref().unwrap_or_default();
    let kind = spec.private_key.as_ref().and_then(key_type);
    let named = common_name.is_some() || !dns_names.is_empty();
    let csr = spec.csr.as_ref().map(|csr| csr.0.as_slice());
    let subject = match (named, csr) {
        (false, None) => return Err(Refusal::Empty),
        (true, Some(_)) => return Err(Refusal::NamesAndCsr),
        (false, Some(csr)) => Subject::Csr(Csr::from_pem(csr)?),
        (true, None) => Subject::Names {
            dns_names: names(common_name, dns_names)?,
            common_name: common_name.map(str::parse::<DnsName>).transpose()?,
            key: kind,
        },
    };
    // ACME with DNS01 cannot prove an address; upstream leaves them out in silence.
    addresses(spec.ip_addresses.as_deref().unwrap_or_default())?;
    let issuer = issuer_name(certificate, settings).unwrap_or_else(|refusal| refusal);
    let fingerprint = Fingerprint::of(&Ingredients {
        common_name,
        dns_names,
        other_names: [&spec.email_addresses, &spec.ip_addresses, &spec.uris]
            .map(|names| names.as_deref().unwrap_or_default()),
        csr,
        issuer: &issuer,
        key: kind,
    });
    Ok(Request { owner: key.owner(), fingerprint, subject })
}

fn check_secret(
    key: &CertificateKey,
    certificate: &Certificate,
    settings: &CertificateSettings,
    consents: &Consents,
) -> Result<(), Refusal> {
    let spec = &certificate.spec;
    let reference = spec.secret_ref.as_ref();
    let by_name = spec.secret_name.as_deref().unwrap_or_default();
    let by_reference = reference.and_then(|it| it.name.as_deref()).unwrap_or_default();
    if !by_name.is_empty() && !by_reference.is_empty() && by_name != by_reference {
        return Err(Refusal::Other(format!(
            "conflicting names in secretRef.Name and secretName: {by_reference} != {by_name}"
        )));
    }
    let target = secret_key(certificate);
    if !syntax::is_subdomain(&target.name) || !syntax::is_subdomain(&target.namespace) {
        return Err(Refusal::Other(format!(
            "{:?} is no name of a Secret: use lower-case letters, digits, '-' and '.'",
            target.to_string()
        )));
    }
    if let Some((name, why)) = syntax::bad_label(spec.secret_labels.as_ref()) {
        return Err(Refusal::Other(format!("secretLabels: {name:?} {why}")));
    }
    let own = key.object.namespace.as_str();
    if !settings.cross_namespace_secrets && consents.of(own, &target) != Consent::Given {
        return Err(Refusal::Other(format!(
            "the Secret {target} is in another namespace than the Certificate: its administrator may \
             allow that with the annotation {}={own} on Namespace {} of the target cluster, or the \
             manager's with --allow-cross-namespace-secrets",
            marks::ALLOW_SECRETS_FROM,
            target.namespace
        )));
    }
    Ok(())
}

fn renewed_after(spec: &CertificateSpec) -> Result<Option<Timestamp>, Refusal> {
    let time = spec.ensure_renewed_after.as_deref().map(str::parse).transpose();
    time.map_err(|_| {
        Refusal::Other("ensureRenewedAfter is no time between the years 0 and 9999".to_owned())
    })
}

fn renew_before(spec: &CertificateSpec) -> Result<Option<SignedDuration>, Refusal> {
    let Some(text) = &spec.renew_before else { return Ok(None) };
    let window = duration(text).map_err(|why| Refusal::Other(format!("renewBefore: {why}")))?;
    if window < MIN_RENEW_BEFORE {
        return Err(Refusal::Other(format!("renewBefore must be at least 5 minutes ({text})")));
    }
    Ok(Some(window))
}

fn key_type(spec: &PrivateKeySpec) -> Option<KeyType> {
    Some(match (spec.algorithm?, spec.size) {
        (KeyAlgorithm::Rsa, Some(3072)) => KeyType::Rsa3072,
        (KeyAlgorithm::Rsa, Some(4096)) => KeyType::Rsa4096,
        (KeyAlgorithm::Rsa, _) => KeyType::Rsa2048,
        (KeyAlgorithm::Ecdsa, Some(384)) => KeyType::P384,
        (KeyAlgorithm::Ecdsa, _) => KeyType::P256,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Home;
    use serde_json::{Value, json};

    fn settings() -> CertificateSettings {
        CertificateSettings::default()
    }

    fn certificate(spec: &Value) -> Certificate {
        serde_json::from_value(json!({
            "apiVersion": "cert.gardener.cloud/v1alpha1", "kind": "Certificate",
            "metadata": { "namespace": "ns", "name": "cert", "uid": "0123456789" },
            "spec": spec,
        }))
        .unwrap()
    }

    fn want_of(spec: &Value) -> Want {
        let key = CertificateKey::new(Home::Source, ObjectKey::new("ns", "cert"));
        want(&key, &certificate(spec), &settings(), &Consents::new(vec![]))
    }

    fn refusal(spec: &Value) -> String {
        want_of(spec).request.unwrap_err().to_string()
    }

    #[test]
    fn the_fingerprint_is_the_one_that_upstream_computes() {
        // As recorded from upstream's binary.
        let spec = json!({
            "commonName": "simple.example.com",
            "dnsNames": ["foo.example.com", "bar.example.com"],
            "issuerRef": { "name": "pebble" },
        });
        let want = want_of(&spec);
        assert_eq!(
            want.request.unwrap().fingerprint.as_str(),
            "e4dfb85b9829993ee8e8096dbe545f105fcff0cfdc05b2117c3096b7"
        );
    }

    #[test]
    fn what_cannot_be_fulfilled_is_refused_in_words() {
        let names: Vec<String> = (0..100).map(|i| format!("n{i}.example.org")).collect();
        let long = format!("{}.example.org", vec!["a".repeat(50); 5].join("."));
        let csr = |text: &str| json!({ "csr": data(text.as_bytes()) });
        for (spec, message) in [
            (json!({}), "either domains or csr must be specified"),
            (
                json!({ "commonName": "a.example", "csr": data(b"x") }),
                "cannot specify both commonName and csr",
            ),
            (json!({ "dnsNames": names }), "invalid number of DNS names: 100 (max 99)"),
            (
                json!({ "commonName": "a".repeat(65) }),
                "the Common Name is limited to 64 characters",
            ),
            (json!({ "dnsNames": [long] }), "longer than 253"),
            (
                json!({ "commonName": "*.*.example.org" }),
                "a wildcard is allowed as the whole first label only",
            ),
            (json!({ "dnsNames": ["10.1.2.3"] }), "10.1.2.3 is an IP address"),
            (json!({ "dnsNames": ["a.example", "A.example"] }), "duplicate domain: a.example"),
            (csr("no pem"), "parsing CSR failed: it is not PEM"),
            (
                json!({ "commonName": "a.example", "renewBefore": "4m" }),
                "renewBefore must be at least 5 minutes",
            ),
            (
                json!({ "commonName": "a.example", "renewBefore": "soon" }),
                "renewBefore: \"soon\" is no duration",
            ),
            (json!({ "commonName": "a.example", "duration": "48h" }), "duration cannot be set"),
            (json!({ "commonName": "a.example", "isCA": false }), "isCA cannot be set"),
            (
                json!({ "commonName": "a.example", "secretName": "x?dryRun=All" }),
                "is no name of a Secret",
            ),
            (
                json!({ "commonName": "a.example", "secretName": "Web_TLS" }),
                "is no name of a Secret",
            ),
            (
                json!({ "commonName": "a.example", "secretLabels": { "cert.gardener.cloud/hash": "x" } }),
                "is set by the manager",
            ),
            (
                json!({ "commonName": "a.example", "secretLabels": { "a": "b c" } }),
                "secretLabels: \"a\"",
            ),
            (
                json!({ "commonName": "a.example", "ensureRenewedAfter": "9999-12-31T23:59:59Z" }),
                "ensureRenewedAfter",
            ),
            (
                json!({ "commonName": "a.example", "secretName": "a", "secretRef": { "name": "b" } }),
                "conflicting names in secretRef.Name and secretName: b != a",
            ),
            (
                json!({ "commonName": "a.example", "secretRef": { "name": "b", "namespace": "other" } }),
                "--allow-cross-namespace-secrets",
            ),
        ] {
            let said = refusal(&spec);
            assert!(said.contains(message), "{spec}: {said}");
        }
    }

    fn data(bytes: &[u8]) -> Value {
        serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap()
    }

    #[test]
    fn a_secret_without_a_name_gets_one_that_stays() {
        let certificate = certificate(&json!({ "commonName": "a.example" }));
        assert_eq!(secret_key(&certificate), ObjectKey::new("ns", "cert-01234567"));
    }

    #[test]
    fn an_issuer_in_another_namespace_is_never_replaced_by_one_of_the_same_name() {
        let spec =
            json!({ "commonName": "a.example", "issuerRef": { "name": "i", "namespace": "x" } });
        let error = issuer_name(&certificate(&spec), &settings()).unwrap_err();
        assert!(error.contains("target issuers not allowed"), "{error}");
    }
}
