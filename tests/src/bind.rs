//! BIND for tests: an authoritative DNS server with wildcard synthesis, dynamic updates, copies of
//! zones and forwarding.

use std::{
    fs,
    ops::{Deref, DerefMut},
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{
    name_server::{Key, NameServer, Updates, zone_file},
    processes::{free_port, scratch},
    tls::Serving,
};

/// A running server. It ends when dropped.
pub struct Bind {
    server: NameServer,
    https: Option<(u16, Serving)>,
}

/// The type of a zone.
#[derive(Clone, Copy, Debug)]
pub enum Zone<'a> {
    /// Authoritative; the records are lines of a zone file (RFC 1035 section 5).
    Primary(&'a str),
    /// The same, and it can be updated (RFC 2136).
    Dynamic(&'a str, Updates<'a>),
    /// A copy of the zone of the server at this port of 127.0.0.1. It lags behind for minutes until
    /// [`NameServer::notify`].
    Secondary(u16),
    /// Forwards to the server at this port of 127.0.0.1, without a cache.
    Forward(u16),
}

impl Bind {
    /// Starts it with `zones`.
    ///
    /// # Errors
    /// It cannot be built or does not start.
    pub async fn start(zones: &[(&str, Zone<'_>)], logs: &Path) -> Result<Self> {
        Self::launch(&[], zones, logs, None).await
    }

    /// The same with DNS over HTTPS at `/dns-query`, see [`https`](Self::https).
    ///
    /// # Errors
    /// It cannot be built or does not start.
    pub async fn start_with_https(zones: &[(&str, Zone<'_>)], logs: &Path) -> Result<Self> {
        let serving = Serving::create("dns-over-https", &scratch()?)?;
        Self::launch(&[], zones, logs, Some((free_port()?, serving))).await
    }

    /// Starts it with `zones` and `keys`, which [`Updates::By`] names.
    ///
    /// # Errors
    /// As for [`start`](Self::start).
    pub async fn start_with_keys(
        keys: &[Key<'_>],
        zones: &[(&str, Zone<'_>)],
        logs: &Path,
    ) -> Result<Self> {
        Self::launch(keys, zones, logs, None).await
    }

    async fn launch(
        keys: &[Key<'_>],
        zones: &[(&str, Zone<'_>)],
        logs: &Path,
        https: Option<(u16, Serving)>,
    ) -> Result<Self> {
        let (port, data) = (free_port()?, scratch()?);
        let (definitions, listener) = https.as_ref().map_or_else(Default::default, listen_https);
        let shown = data.display();
        let mut config = format!(
            "{definitions}options {{ directory \"{shown}\"; listen-on port {port} {{ 127.0.0.1; }}; \
             {listener}listen-on-v6 {{ none; }}; pid-file none; recursion yes; dnssec-validation no; \
             empty-zones-enable no; notify no; max-cache-ttl 0; max-ncache-ttl 0; }};\n\
             controls {{ }};\n"
        );
        for key in keys {
            let (name, algorithm, secret) = (key.name, key.algorithm_name(), key.secret);
            config +=
                &format!("key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};\n");
        }
        for (name, zone) in zones {
            config += &zone.configure(name, &data)?;
        }
        let file = data.join("named.conf");
        fs::write(&file, config)?;
        let arguments = ["-g", "-n", "1", "-c"].map(str::to_owned).into_iter();
        let arguments = arguments.chain([file.display().to_string()]).collect();
        let answered = |zone: &Zone<'_>| !matches!(zone, Zone::Forward(_));
        let probe = zones.iter().find(|(_, zone)| answered(zone)).map_or("test", |(name, _)| name);
        let server = NameServer::start("named", arguments, port, probe, logs).await?;
        Ok(Self { server, https })
    }

    /// The URL of its DNS over HTTPS, and the certificate of the CA that it trusts, PEM.
    ///
    /// # Errors
    /// It was started without.
    pub fn https(&self) -> Result<(String, String)> {
        let (port, serving) = self.https.as_ref().context("BIND was started without HTTPS")?;
        let authority = fs::read_to_string(&serving.authority)?;
        Ok((format!("https://localhost:{port}/dns-query"), authority))
    }
}

impl Zone<'_> {
    /// The part of the configuration for this zone, with its file written.
    fn configure(&self, name: &str, data: &Path) -> Result<String> {
        let primary = |records: &str, options: &str| {
            fs::write(data.join(name), zone_file(records))?;
            Ok(format!("zone \"{name}\" {{ type primary; file \"{name}\"; {options} }};\n"))
        };
        match self {
            Self::Primary(records) => primary(records, ""),
            Self::Dynamic(records, updates) => {
                let allowed = match updates {
                    Updates::None => "none;".to_owned(),
                    Updates::By(keys) => {
                        keys.iter().map(|key| format!("key \"{key}\"; ")).collect()
                    }
                    Updates::Unsigned => "127.0.0.1;".to_owned(),
                };
                primary(records, &format!("allow-update {{ {allowed} }};"))
            }
            Self::Secondary(port) => Ok(format!(
                "zone \"{name}\" {{ type secondary; file \"{name}.copy\"; \
                 primaries {{ 127.0.0.1 port {port}; }}; min-refresh-time 3600; \
                 allow-notify {{ 127.0.0.1; }}; }};\n"
            )),
            Self::Forward(port) => Ok(format!(
                "zone \"{name}\" {{ type forward; forward only; \
                 forwarders {{ 127.0.0.1 port {port}; }}; }};\n"
            )),
        }
    }
}

/// The definitions and the option for DNS over HTTPS.
fn listen_https((port, serving): &(u16, Serving)) -> (String, String) {
    let (key, certificate) = (serving.key.display(), serving.certificate.display());
    let definitions = format!(
        "tls serving {{ key-file \"{key}\"; cert-file \"{certificate}\"; }};\n\
         http doh {{ endpoints {{ \"/dns-query\"; }}; }};\n"
    );
    (definitions, format!("listen-on port {port} tls serving http doh {{ 127.0.0.1; }}; "))
}

impl Deref for Bind {
    type Target = NameServer;

    fn deref(&self) -> &NameServer {
        &self.server
    }
}

impl DerefMut for Bind {
    fn deref_mut(&mut self) -> &mut NameServer {
        &mut self.server
    }
}
