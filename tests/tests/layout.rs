//! Rules for the layout of the workspace.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Result, ensure};
use cert_controller_manager::{cli::GeneratedFiles, generate};
use tests::{locate, objects::documents};

#[path = "layout/circles.rs"]
mod circles;
#[path = "layout/lengths.rs"]
mod lengths;
#[path = "layout/words.rs"]
mod words;

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
        (GeneratedFiles::Crds, format!("{chart}/crds")),
        (GeneratedFiles::Roles, format!("{chart}/roles")),
        (GeneratedFiles::Access, "docs/reference".to_owned()),
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
        let mixed = what == GeneratedFiles::Access;
        ensure!(
            mixed || superfluous.is_empty(),
            "{directory} has {superfluous:?}, which the generator does not create"
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

/// Checks the bans of `deny.toml` without cargo-deny, which is not installed everywhere.
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

/// The parts of the manager, and the parts that each may use. Parts share Kubernetes objects, the
/// registered issuers and the store of proofs.
const PARTS: [(&str, &[&str]); 8] = [
    ("api", &[]),
    ("runtime", &[]),
    ("answer", &[]),
    ("solvers", &[]),
    ("sources", &[]),
    ("issuers", &["solvers"]),
    ("revocations", &["issuers"]),
    ("certificates", &["issuers", "solvers"]),
];

#[test]
fn the_parts_of_the_manager_only_use_permitted_parts() -> Result<()> {
    let sources = locate::checkout().join("cert-controller-manager/src");
    for (part, others) in PARTS {
        let mut files = vec![sources.join(format!("{part}.rs"))];
        let mut directories = vec![sources.join(part)];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory)? {
                let path = entry?.path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        ensure!(files.len() > 3, "{part} has no files");
        for file in files {
            for used in modules_used(&fs::read_to_string(&file)?) {
                let is_part = PARTS
                    .iter()
                    .any(|(name, _)| *name == used && !["api", "runtime"].contains(name));
                ensure!(
                    !is_part || used == part || others.contains(&used.as_str()),
                    "{} uses crate::{used}, which {part} may not",
                    file.display()
                );
            }
        }
    }
    Ok(())
}

/// The modules of its own crate that a file uses: after `crate::`, alone or in braces.
fn modules_used(text: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        let text = text.trim_start();
        text.chars().take_while(|it| it.is_alphanumeric() || *it == '_').collect()
    };
    let mut used = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(word(rest));
            continue;
        };
        used.insert(word(list));
        let mut depth = 0;
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => drop(used.insert(word(&list[at + 1..]))),
                _ => {}
            }
        }
    }
    used
}

#[test]
fn used_modules_are_found() {
    let text = "use crate::{\n    api::{A, b::C},\n    runtime::x,\n};\nuse crate::config::Y;\nlet z = crate::access::z(); // {";
    let used: Vec<String> = modules_used(text).into_iter().filter(|it| !it.is_empty()).collect();
    assert_eq!(used, ["access", "api", "config", "runtime"]);
}

#[test]
fn no_modules_of_a_crate_import_each_other() -> Result<()> {
    for library in ["cert-lib", "cert-controller-manager"] {
        let texts = circles::read(&locate::checkout().join(library).join("src"))?;
        let imports = circles::imports(&texts);
        ensure!(imports.len() > 50, "{library} has only {} modules with imports", imports.len());
        let circles = circles::circles(&imports);
        let circles: Vec<String> =
            circles.iter().map(|circle| circles::describe(&imports, circle)).collect();
        ensure!(
            circles.is_empty(),
            "modules of {library} import each other:\n\n{}\n\nmove what they share into a module of \
             its own",
            circles.join("\n\n")
        );
    }
    Ok(())
}

#[test]
fn functions_fit_a_screen() -> Result<()> {
    let mut long = BTreeSet::new();
    for library in ["cert-lib", "cert-controller-manager"] {
        let texts = lengths::read(&locate::checkout().join(library).join("src"))?;
        ensure!(texts.len() > 50, "{library} has only {} files", texts.len());
        for (path, text) in &texts {
            let path = path.strip_prefix(locate::checkout())?.display().to_string();
            let functions = lengths::long_functions(text).into_iter();
            long.extend(functions.map(|(name, lines)| format!("{path}: {name} ({lines} lines)")));
        }
    }
    let long: Vec<String> = long.into_iter().collect();
    ensure!(
        long.is_empty(),
        "functions have more than {} lines:\n\n{}\n\nmove parts into functions whose names explain them",
        lengths::MAX_LINES,
        long.join("\n")
    );
    Ok(())
}
