//! What the layout of the workspace promises.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use cert_controller_manager::generate::{self, What};
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

#[test]
fn the_committed_files_are_the_generated_ones() -> Result<()> {
    let chart = "charts/cert-controller-manager";
    for (what, directory) in [
        (What::Crds, format!("{chart}/crds")),
        (What::Roles, format!("{chart}/roles")),
        (What::Access, "docs/reference".to_owned()),
    ] {
        let files = generate::files(what)?;
        ensure!(!files.is_empty(), "{directory} would be empty");
        for (name, text) in &files {
            let committed = locate::read(&format!("{directory}/{name}"))?;
            ensure!(committed == *text, "{directory}/{name} differs: run `make generate`");
        }
        let superfluous = fs::read_dir(locate::checkout().join(&directory))?
            .map(|file| Ok(file?.file_name().to_string_lossy().into_owned()))
            .collect::<Result<Vec<String>>>()?;
        let known = |name: &&String| !files.iter().any(|(file, _)| file == *name);
        let superfluous: Vec<&String> = superfluous.iter().filter(known).collect();
        let mixed = what == What::Access;
        ensure!(
            mixed || superfluous.is_empty(),
            "{directory} has {superfluous:?}, which nobody made"
        );
    }
    Ok(())
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
