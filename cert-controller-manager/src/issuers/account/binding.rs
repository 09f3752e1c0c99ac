//! Reads external account bindings (RFC 8555 section 7.3.4) from their Secrets.

use cert_lib::acme::account::binding::{Binding, MacAlgorithm};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use crate::{
    api::{
        Issuer, ObjectKey,
        issuer::{BindingAlgorithm, ExternalAccountBinding},
    },
    issuers::error::{IssuerError, TRANSPORT},
    runtime::errors::brief,
};

const HMAC_KEY: &str = "hmacKey";

/// The Secret with the key of the binding. The default namespace is that of the Issuer.
#[must_use]
pub fn secret_of(issuer: &Issuer, binding: &ExternalAccountBinding) -> ObjectKey {
    let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let reference = &binding.key_secret_ref;
    ObjectKey {
        namespace: some(&reference.namespace)
            .unwrap_or_else(|| issuer.namespace().unwrap_or_default()),
        name: some(&reference.name).unwrap_or_default(),
    }
}

/// Reads the binding. It is needed for a registration only: its Secret can be deleted afterwards.
///
/// # Errors
/// The messages are upstream's.
pub async fn load(
    client: &Client,
    name: &ObjectKey,
    spec: &ExternalAccountBinding,
) -> Result<Binding, IssuerError> {
    let invalid =
        |why: String| IssuerError::InvalidConfig(format!("loading EAB secret failed: {why}"));
    if spec.key_id.is_empty() {
        return Err(invalid("missing keyID for external account binding in ACME spec".to_owned()));
    }
    if name.name.is_empty() {
        return Err(invalid("keySecretRef of the external account binding has no name".to_owned()));
    }
    let api: Api<Secret> = Api::namespaced(client.clone(), &name.namespace);
    let found = api.get_opt(&name.name).await.map_err(|error| IssuerError::Failed {
        message: format!(
            "loading EAB secret failed: fetching issuer EAB secret failed: {}",
            brief(&error)
        ),
        disposition: TRANSPORT,
    })?;
    let missing = || format!("fetching issuer EAB secret failed: Secret {name} does not exist");
    let secret = found.ok_or_else(|| invalid(missing()))?;
    read(name, &secret, spec)
}

fn read(
    name: &ObjectKey,
    secret: &Secret,
    spec: &ExternalAccountBinding,
) -> Result<Binding, IssuerError> {
    let invalid =
        |why: String| IssuerError::InvalidConfig(format!("loading EAB secret failed: {why}"));
    let data = secret.data.iter().flatten();
    let (keys, others): (Vec<_>, Vec<_>) = data.partition(|(key, _)| *key == HMAC_KEY);
    let Some((_, value)) = keys.first() else {
        return Err(invalid(format!("key {HMAC_KEY} not found in EAB secret {name}")));
    };
    if value.0.is_empty() {
        return Err(invalid(format!("key {HMAC_KEY} in EAB secret {name} is empty")));
    }
    if !others.is_empty() {
        let others: Vec<&str> = others.iter().map(|(key, _)| key.as_str()).collect();
        let others = others.join(", ");
        return Err(invalid(format!("EAB secret {name} contains unexpected keys: {others}")));
    }
    let algorithm = match spec.key_algorithm {
        None | Some(BindingAlgorithm::Hs256) => MacAlgorithm::Hs256,
        Some(BindingAlgorithm::Hs384) => MacAlgorithm::Hs384,
        Some(BindingAlgorithm::Hs512) => MacAlgorithm::Hs512,
    };
    Binding::new(&spec.key_id, algorithm, &value.0).map_err(|error| {
        IssuerError::InvalidConfig(format!("creating registration user failed: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn loaded(data: &[(&str, &str)], algorithm: Option<BindingAlgorithm>) -> String {
        let data = data.iter();
        let data = data.map(|(key, value)| ((*key).to_owned(), ByteString((*value).into())));
        let secret = Secret { data: Some(data.collect()), ..Secret::default() };
        let spec = ExternalAccountBinding {
            key_id: "kid-1".to_owned(),
            key_algorithm: algorithm,
            ..ExternalAccountBinding::default()
        };
        match read(&ObjectKey::new("ns", "eab"), &secret, &spec) {
            Ok(binding) => format!("{binding:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// faults.md 28
    #[test]
    fn an_invalid_binding_secret_is_refused_with_upstreams_message() {
        let good = "A".repeat(43);
        for (data, want) in [
            (&[][..], "loading EAB secret failed: key hmacKey not found in EAB secret ns/eab"),
            (
                &[("hmacKey", "")],
                "loading EAB secret failed: key hmacKey in EAB secret ns/eab is empty",
            ),
            (
                &[("b", "x"), ("hmacKey", &good), ("a", "x")],
                "loading EAB secret failed: EAB secret ns/eab contains unexpected keys: a, b",
            ),
            (
                &[("hmacKey", "not base64")],
                "creating registration user failed: acme: could not decode hmac key: illegal \
                 base64 data at input byte 3",
            ),
            (
                &[("hmacKey", "AAAA")],
                "creating registration user failed: acme: error signing eab content: failed to \
                 External Account Binding sign content: go-jose/go-jose: invalid key size for \
                 algorithm HS256: it has 3 bytes and needs at least 32",
            ),
            (&[("hmacKey", &good)], "Binding { key_id: \"kid-1\", algorithm: Hs256, .. }"),
        ] {
            assert_eq!(loaded(data, None), want);
        }
        let long = "A".repeat(86);
        let bound = loaded(&[("hmacKey", &long)], Some(BindingAlgorithm::Hs512));
        assert_eq!(bound, "Binding { key_id: \"kid-1\", algorithm: Hs512, .. }");
    }
}
