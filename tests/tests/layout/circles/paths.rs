//! Finds the paths in the code of a module.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::tokens;

/// What one file says about modules.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The modules in files of their own that it declares.
    pub children: BTreeSet<String>,
    /// The names that it imports, each with its path.
    pub names: BTreeMap<String, Vec<String>>,
    /// All paths that it uses.
    pub used: Vec<Used>,
    /// The first names of all paths outside of imports.
    pub words: BTreeSet<String>,
}

/// One used path.
#[derive(Debug)]
pub struct Used {
    /// Its segments.
    pub path: Vec<String>,
    /// The name under which it is re-exported, if it is.
    pub public_name: Option<String>,
}

/// Scans the text of one file.
pub fn scan(text: &str) -> Scanned {
    let tokens = tokens(text);
    let token = |at: usize| tokens.get(at).map_or("", String::as_str);
    let mut scanned = Scanned::default();
    // The depths at which the open inline modules began.
    let (mut depth, mut inline) = (0_usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match token(at) {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                inline.pop_if(|began| *began == depth);
            }
            "mod" if token(at + 2) == ";" => drop(scanned.children.insert(tokens[at + 1].clone())),
            "mod" if token(at + 2) == "{" => inline.push(depth),
            "use" => {
                let is_public = at > 0 && matches!(token(at - 1), "pub" | ")");
                let mut rest = &tokens[at + 1..];
                for path in tree(&mut rest, &[]) {
                    scanned.import(path, inline.len(), is_public);
                }
                at = tokens.len() - rest.len();
                continue;
            }
            word if token(at + 1) == "::" && is_name(word) => {
                // Behind `::` begins the name of another crate, or of a method of a type. Behind
                // `in` begins the scope of `pub(in …)`.
                let is_own = at == 0 || !matches!(token(at - 1), "::" | "in");
                let (path, end) = path_at(&tokens, at);
                if is_own {
                    scanned.words.insert(word.to_owned());
                    scanned.add(path, inline.len(), None);
                }
                at = end;
                continue;
            }
            word => drop(scanned.words.insert(word.to_owned())),
        }
        at += 1;
    }
    scanned
}

impl Scanned {
    /// Adds a path that is used in `depth` inline modules.
    fn add(&mut self, mut path: Vec<String>, depth: usize, public_name: Option<String>) {
        for _ in 0..depth {
            if path.first().is_some_and(|first| first == "super") {
                path.remove(0);
            }
        }
        if depth > 0 && path.first().is_some_and(|first| first != "super" && first != "crate") {
            path.insert(0, "self".to_owned());
        }
        self.used.push(Used { path, public_name });
    }

    /// Adds an imported path, whose last segments may be `as` and its new name.
    fn import(&mut self, mut path: Vec<String>, depth: usize, is_public: bool) {
        let alias = (path.len() > 2 && path[path.len() - 2] == "as")
            .then(|| path.split_off(path.len() - 2));
        if path.last().is_some_and(|last| last == "self" || last == "*") && path.len() > 1 {
            path.pop();
        }
        let name = alias.as_ref().and_then(|alias| alias.last()).or(path.last()).cloned();
        if let Some(name) = name.clone().filter(|_| depth == 0) {
            self.names.insert(name, path.clone());
        }
        self.add(path, depth, name.filter(|_| is_public));
    }
}

/// The path that begins at `at`, and the position behind it.
fn path_at(tokens: &[String], at: usize) -> (Vec<String>, usize) {
    let mut path = vec![tokens[at].clone()];
    let mut end = at + 1;
    while tokens.get(end).is_some_and(|token| token == "::") {
        match tokens.get(end + 1) {
            Some(name) if is_name(name) => path.push(name.clone()),
            _ => break,
        }
        end += 2;
    }
    (path, end.max(at + 1))
}

/// The paths of a `use`: `a::{b::{self, c}, d as e}`. Leaves the rest behind them in `tokens`.
fn tree(tokens: &mut &[String], prefix: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut path = prefix.to_vec();
    let mut is_list = false;
    while let Some((token, rest)) = tokens.split_first() {
        match token.as_str() {
            ";" | "}" | "," => break,
            "{" => {
                is_list = true;
                *tokens = rest;
                loop {
                    paths.extend(tree(tokens, &path));
                    let Some((token, rest)) = tokens.split_first() else { return paths };
                    if token == ";" {
                        return paths;
                    }
                    *tokens = rest;
                    if token == "}" {
                        break;
                    }
                }
            }
            // `::http` is a crate, also where a module has that name.
            "::" if path.is_empty() => return skip(tokens),
            "::" => *tokens = rest,
            _ => {
                path.push(token.clone());
                *tokens = rest;
            }
        }
    }
    if !is_list && path.len() > prefix.len() {
        paths.push(path);
    }
    paths
}

/// Skips the rest of a `use`.
fn skip(tokens: &mut &[String]) -> Vec<Vec<String>> {
    let end = tokens.iter().position(|token| token == ";").unwrap_or(tokens.len());
    *tokens = &tokens[end..];
    Vec::new()
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}
