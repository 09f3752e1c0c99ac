//! Knot for tests: an authoritative DNS server with dynamic updates.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Result;

use crate::{
    name_server::{Key, NameServer, Updates, zone_file},
    processes::{free_port, scratch},
};

/// Starts it with `keys` and `zones`: name, lines of a zone file, and who may update.
///
/// # Errors
/// It cannot be installed or does not start.
pub async fn start(
    keys: &[Key<'_>],
    zones: &[(&str, &str, Updates<'_>)],
    logs: &Path,
) -> Result<NameServer> {
    let (port, data) = (free_port()?, scratch()?);
    let shown = data.display();
    let mut config = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: \"{shown}\"\n  udp-workers: 1\n  \
         tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: info\n\
         database:\n  storage: \"{shown}\"\n  journal-db-max-size: 16M\n\
         template:\n  - id: default\n    storage: \"{shown}\"\n    zonefile-sync: -1\n    \
         zonefile-load: whole\n"
    );
    if !keys.is_empty() {
        config += "key:\n";
    }
    for key in keys {
        let (name, algorithm, secret) = (key.name, key.algorithm_name(), key.secret);
        writeln!(config, "  - id: {name}\n    algorithm: {algorithm}\n    secret: {secret}")?;
    }
    config += "acl:\n  - id: transfer\n    address: 127.0.0.1\n    action: transfer\n";
    for (number, (_, _, updates)) in zones.iter().enumerate() {
        let permitted = match updates {
            Updates::None => continue,
            Updates::By(keys) => format!("key: [ {} ]", keys.join(", ")),
            Updates::Unsigned => "address: 127.0.0.1".to_owned(),
        };
        writeln!(config, "  - id: update-{number}\n    {permitted}\n    action: update")?;
    }
    config += "zone:\n";
    for (number, (name, records, updates)) in zones.iter().enumerate() {
        fs::write(data.join(name), zone_file(records))?;
        let update = match updates {
            Updates::None => String::new(),
            Updates::By(_) | Updates::Unsigned => format!(", update-{number}"),
        };
        writeln!(config, "  - domain: {name}\n    file: {name}\n    acl: [ transfer{update} ]")?;
    }
    let file = data.join("knot.conf");
    fs::write(&file, config)?;
    let arguments = vec!["-c".to_owned(), file.display().to_string()];
    let probe = zones.first().map_or("test", |(name, ..)| name);
    NameServer::start("knotd", arguments, port, probe, logs).await
}
