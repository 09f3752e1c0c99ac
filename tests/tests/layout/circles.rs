//! Finds modules of a crate that import each other.
//!
//! [`imports`] reads the files of a crate and follows each path to the module that defines the
//! item: a re-export counts as the module behind it. Comments, texts and tests are left out. A
//! module that only declares or re-exports an item of its child does not import it.

#[path = "circles/paths.rs"]
mod paths;
#[path = "circles/tokens.rs"]
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Result;

use self::paths::Scanned;

/// The path of a module in its crate; empty for the root.
type Module = Vec<String>;

/// The modules that each module imports, each with one path that does.
pub type Imports = BTreeMap<String, BTreeMap<String, String>>;

/// Reads all modules below `source`, the directory of a crate's `lib.rs`.
pub fn read(source: &Path) -> Result<BTreeMap<Module, String>> {
    let mut texts = BTreeMap::new();
    let mut directories = vec![(source.to_owned(), Module::new())];
    while let Some((directory, parent)) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let module: Module = [parent.clone(), vec![name.clone()]].concat();
            if path.is_dir() {
                directories.push((path, module));
            } else if parent.is_empty() && name == "lib" {
                texts.insert(Module::new(), fs::read_to_string(&path)?);
            } else if !(parent.is_empty() && name == "main") {
                texts.insert(module, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(texts)
}

/// Who imports whom. Modules that are declared for tests only are left out.
pub fn imports(texts: &BTreeMap<Module, String>) -> Imports {
    let modules: BTreeMap<&Module, Scanned> =
        texts.iter().map(|(module, text)| (module, paths::scan(text))).collect();
    let built: BTreeSet<&Module> =
        modules.keys().copied().filter(|module| is_built(&modules, module)).collect();
    let mut imports = Imports::new();
    for module in &built {
        for used in &modules[*module].used {
            let Some(target) = target(&modules, module, &used.path, 0) else { continue };
            let is_unused = |name: &String| !modules[*module].words.contains(name);
            let is_re_export =
                target.starts_with(module) && used.public_name.as_ref().is_some_and(is_unused);
            if target != **module && built.contains(&target) && !is_re_export {
                let targets = imports.entry(module.join("::")).or_default();
                targets.entry(target.join("::")).or_insert_with(|| used.path.join("::"));
            }
        }
    }
    imports
}

/// Whether all declarations down to `module` are outside of tests.
fn is_built(modules: &BTreeMap<&Module, Scanned>, module: &Module) -> bool {
    (0..module.len()).all(|depth| {
        let parent = modules.get(&module[..depth].to_vec());
        parent.is_some_and(|parent| parent.children.contains(&module[depth]))
    })
}

/// The module that defines the item at `path`, as seen from `module`; `None` for other crates.
fn target(
    modules: &BTreeMap<&Module, Scanned>,
    module: &Module,
    path: &[String],
    depth: usize,
) -> Option<Module> {
    let mut current = module.clone();
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" => (current, rest) = (Module::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {}
        first => {
            let scanned = &modules[module];
            let is_child = scanned.children.contains(first);
            if !is_child && !scanned.names.contains_key(first) {
                return None;
            }
        }
    }
    while rest.first().is_some_and(|first| first == "super") {
        current.pop();
        rest = &rest[1..];
    }
    while let Some(name) = rest.first() {
        let child: Module = [current.clone(), vec![name.clone()]].concat();
        if modules.contains_key(&child) {
            current = child;
        } else {
            let alias = modules.get(&current).and_then(|scanned| scanned.names.get(name));
            return match alias {
                Some(alias) if depth < MAX_ALIASES && alias != path => {
                    let path = [alias, &rest[1..]].concat();
                    target(modules, &current, &path, depth + 1)
                }
                _ => Some(current),
            };
        }
        rest = &rest[1..];
    }
    Some(current)
}

/// The circles: groups of modules that all reach each other.
pub fn circles(imports: &Imports) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        imports.keys().map(|module| (module, reached_from(imports, module))).collect();
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for (module, others) in &reached {
        if others.contains(module) && !circles.iter().any(|circle| circle.contains(*module)) {
            let back =
                |other: &&&String| reached.get(**other).is_some_and(|it| it.contains(module));
            circles.push(others.iter().filter(back).map(|other| (*other).clone()).collect());
        }
    }
    circles
}

fn reached_from<'a>(imports: &'a Imports, start: &'a String) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(module) = open.pop() {
        for target in imports.get(module).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(target) {
                open.push(target);
            }
        }
    }
    reached
}

/// The imports within `circle`, one a line.
pub fn describe(imports: &Imports, circle: &BTreeSet<String>) -> String {
    let mut lines = Vec::new();
    for module in circle {
        for (target, path) in &imports[module] {
            if circle.contains(target) {
                lines.push(format!("{module} -> {target} ({path})"));
            }
        }
    }
    lines.join("\n")
}

/// Names that are followed to find an item.
const MAX_ALIASES: usize = 8;

/// The edges between these modules, one a line, and the circles.
#[cfg(test)]
fn scanned(texts: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
    let module = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
    let mut all: BTreeMap<Module, String> =
        texts.iter().map(|(name, text)| (module(name), (*text).to_owned())).collect();
    let declared = texts.iter().filter(|(name, _)| !name.contains("::"));
    let root = declared.map(|(name, _)| format!("pub mod {name};")).collect();
    all.insert(Module::new(), root);
    let imports = imports(&all);
    let edges = imports
        .iter()
        .flat_map(|(module, targets)| targets.keys().map(move |it| format!("{module} -> {it}")));
    let circles = circles(&imports);
    (edges.collect(), circles.iter().map(|circle| describe(&imports, circle)).collect())
}

#[test]
fn imports_are_found_in_all_kinds_of_paths() {
    for (text, wanted) in [
        ("use crate::b;", &["b"][..]),
        ("use crate::{b::{self, c::{X, Y}}, d as e};", &["b", "b::c", "d"]),
        ("use super::{b::Z as _, d::*};", &["b", "d"]),
        ("fn f() -> crate::d::T<super::b::U> { todo!() }", &["b", "d"]),
        ("use crate::b::c; fn f() { c::g::<u8>() }", &["b::c"]),
        ("mod own { use super::super::d::X; use super::Y; fn f() { crate::b::g() } }", &["b", "d"]),
        // The module that defines an item counts, not the one that re-exports it.
        ("use crate::b::X;", &["b::c"]),
        ("use crate::{b::Renamed, d::Deep};", &["b::c"]),
        // Nothing is imported.
        ("use ::d::X; fn f() { ::b::g(); other::d::g(); <T>::d::g() }", &[]),
        ("pub(in crate::b) fn f() { let b = self::g(); b.c() }", &[]),
        ("// use crate::b;\n/* /* */ use crate::b; */ /// [`crate::b`]", &[]),
        ("fn f<'a>(x: &'a str) { g('\\'', '\"', \"crate::b::g() \\\" crate::b\"); }", &[]),
        ("const X: &str = r#\"a \" crate::b::g()\"#;", &[]),
        (
            "#[cfg(test)] use crate::{b, d};\n#[cfg(test)]\nmod tests { use crate::b; fn f() {} }",
            &[],
        ),
    ] {
        let (edges, _) = scanned(&[
            ("a", text),
            ("b", "pub mod c; pub use self::c::{X, Y as Renamed}; #[cfg(test)] mod tests;"),
            ("b::c", ""),
            ("b::tests", "use crate::a;"),
            ("d", "pub use crate::b::c::Deep;"),
        ]);
        let edges: Vec<&str> = edges.iter().filter_map(|edge| edge.strip_prefix("a -> ")).collect();
        assert_eq!(edges, wanted, "{text}");
    }
}

#[test]
fn circles_are_described_by_their_imports() {
    let (edges, found) = scanned(&[
        ("a", "use crate::b::X;"),
        ("b", "use crate::c::Y;"),
        ("c", "use crate::a::Z; use crate::d::W;"),
        ("d", ""),
        ("e", "use crate::a;"),
    ]);
    assert_eq!(edges.len(), 5, "{edges:?}");
    assert_eq!(found, ["a -> b (crate::b::X)\nb -> c (crate::c::Y)\nc -> a (crate::a::Z)"]);
}

#[test]
fn a_parent_that_uses_a_child_must_not_define_what_the_child_imports() {
    let child = ("a::b", "use super::Shared; pub struct X;");
    for (parent, is_circle) in [
        ("mod b; pub struct Shared; fn f() { b::g() }", true),
        ("mod b; pub struct Shared; pub use b::X; fn f() -> X { X }", true),
        ("mod b; pub struct Shared; pub use b::X;", false),
        ("mod b; mod c; pub use c::Shared; fn f() { b::g() }", false),
    ] {
        let (_, found) = scanned(&[("a", parent), child, ("a::c", "pub struct Shared;")]);
        assert_eq!(!found.is_empty(), is_circle, "{parent}: {found:?}");
    }
}
