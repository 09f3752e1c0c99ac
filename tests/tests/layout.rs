//! What the layout of the workspace promises.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tests::{locate, objects::documents};

#[test]
fn the_engine_does_not_depend_on_kubernetes() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "cert-lib", "-e", "normal", "--prefix", "none", "--offline"])
        .current_dir(locate::checkout())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let kubernetes: Vec<&str> = tree
        .lines()
        .filter(|line| line.starts_with("kube") || line.starts_with("k8s-openapi"))
        .collect();
    assert!(tree.starts_with("cert-lib "), "{tree}");
    assert!(kubernetes.is_empty(), "cert-lib depends on {kubernetes:?}");
}

/// Definitions by name.
fn by_name(yaml: &str) -> Result<BTreeMap<String, Value>> {
    let all = documents(yaml)?.into_iter();
    all.map(|one| {
        let name = one["metadata"]["name"].as_str().context("a definition has no name")?;
        Ok((name.to_owned(), one))
    })
    .collect()
}

#[test]
fn the_committed_definitions_are_the_generated_ones() {
    let directory = locate::checkout().join("charts/cert-controller-manager/crds");
    let mut committed = BTreeMap::new();
    for file in fs::read_dir(&directory).unwrap() {
        committed.extend(by_name(&fs::read_to_string(file.unwrap().path()).unwrap()).unwrap());
    }
    let output =
        Command::new(locate::manager().unwrap()).args(["generate", "crds"]).output().unwrap();
    let generated = by_name(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert!(!generated.is_empty());
    assert_eq!(committed, generated, "run `make generate`");
}

#[test]
fn every_example_is_yaml_with_a_name() -> Result<()> {
    for file in fs::read_dir(locate::checkout().join("examples"))? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let objects = documents(&fs::read_to_string(&path)?)?;
            let named = objects.iter().all(|object| object["metadata"]["name"].is_string());
            ensure!(!objects.is_empty() && named, "{} holds a nameless object", path.display());
        }
    }
    Ok(())
}

/// What `deny.toml` bans, checked without cargo-deny, which is not everywhere.
#[test]
fn no_banned_crate_is_built() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let tree = std::process::Command::new(cargo)
        .args(["tree", "--workspace", "--edges", "normal,build", "--prefix", "none", "--offline"])
        .current_dir(tests::locate::checkout())
        .output()
        .unwrap();
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.lines().count() > 100, "{tree}");
    let banned = tests::locate::read("deny.toml").unwrap();
    let banned: Vec<&str> = banned
        .lines()
        .filter_map(|line| line.split("{ name = \"").nth(1)?.split('"').next())
        .collect();
    assert!(banned.contains(&"ring"), "{banned:?}");
    for name in banned {
        assert!(!tree.lines().any(|line| line.split(' ').next() == Some(name)), "{name} is built");
    }
}
