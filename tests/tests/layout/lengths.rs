//! Finds long functions in the formatted code of a crate.
//!
//! Tests do not count: modules that are declared with `#[cfg(test)]`, in their own file or not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

/// Maximum number of lines of a function, with its signature.
pub const MAX_LINES: usize = 45;

/// Files below `source` that are not tests, with their text without inline tests.
pub fn read(source: &Path) -> Result<Vec<(PathBuf, String)>> {
    let (mut texts, mut tests) = (Vec::new(), BTreeSet::new());
    let mut directories = vec![source.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)?;
                tests.extend(test_modules(&text).map(|name| module_path(&path, name)));
                texts.push((path, without_tests(&text)));
            }
        }
    }
    // The modules below a test module are in the directory with its name.
    texts.retain(|(path, _)| !path.with_extension("").ancestors().any(|it| tests.contains(it)));
    Ok(texts)
}

/// Names of the modules in other files that are declared for tests only.
fn test_modules(text: &str) -> impl Iterator<Item = &str> {
    let declarations = text.split("#[cfg(test)]\n").skip(1);
    declarations.filter_map(|rest| {
        let name = rest.lines().next()?.trim().strip_suffix(';')?;
        name.split_once("mod ").map(|(_, name)| name)
    })
}

/// The path of a module without extension, as declared in this file.
fn module_path(file: &Path, name: &str) -> PathBuf {
    match file.file_stem().is_some_and(|stem| stem == "lib" || stem == "main") {
        true => file.with_file_name(name),
        false => file.with_extension("").join(name),
    }
}

/// The text before the first inline module for tests, which is the last item of a file.
fn without_tests(text: &str) -> String {
    let inline = text.match_indices("#[cfg(test)]\nmod ").find(|(at, _)| {
        text[*at..].lines().nth(1).is_some_and(|declaration| declaration.ends_with('{'))
    });
    inline.map_or(text, |(at, _)| &text[..at]).to_owned()
}

/// The functions of a text that are too long: their first line, and their number of lines.
pub fn long_functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let starts = (0..lines.len()).filter(|at| is_function(lines[*at]));
    let all = starts.map(|at| (lines[at].trim(), length(&lines[at..])));
    all.filter(|(_, length)| *length > MAX_LINES).collect()
}

fn is_function(line: &str) -> bool {
    let Some((before, _)) = line.split_once("fn ") else { return false };
    let is_qualifier = |word: &str| {
        word.starts_with("pub") || ["async", "const", "unsafe", "extern", "\"C\""].contains(&word)
    };
    // `pub(in path)` has a space.
    before.replace("(in ", "(").split_whitespace().all(is_qualifier)
}

/// The number of lines of the function that begins here. A declaration in a trait ends with its
/// signature.
fn length(lines: &[&str]) -> usize {
    let first = lines[0];
    let indent = &first[..first.len() - first.trim_start().len()];
    let is_end = |line: &&str| {
        let rest = line.strip_prefix(indent).unwrap_or_default();
        let is_last = !rest.starts_with(' ') && (rest.starts_with('}') || rest.ends_with(';'));
        is_last || (*line == first && (rest.ends_with('}') || rest.ends_with(';')))
    };
    1 + lines.iter().position(is_end).unwrap_or(lines.len())
}

#[test]
fn long_functions_are_found_at_any_depth() {
    let body = |lines: usize, indent: &str| format!("{indent}    a();\n").repeat(lines - 2);
    for (signature, indent) in [
        ("fn f() {", ""),
        ("pub(in crate::a) const fn f() {", ""),
        ("    pub async fn f() {", "    "),
    ] {
        let text = |lines| format!("{signature}\n{}{indent}}}\nfn g() {{}}\n", body(lines, indent));
        assert_eq!(long_functions(&text(MAX_LINES)), [], "{signature}");
        assert_eq!(
            long_functions(&text(MAX_LINES + 1)),
            [(signature.trim(), MAX_LINES + 1)],
            "{signature}"
        );
    }
}

#[test]
fn declarations_and_constants_are_not_long() {
    let rest = "// a\n".repeat(MAX_LINES);
    for text in [
        "    fn f(\n        &self,\n    ) -> u8;\n",
        "    fn f();\n",
        "const X: fn () = a;\n",
        "    // see fn f\n",
    ] {
        assert_eq!(long_functions(&format!("{text}{rest}")), [], "{text}");
    }
}

#[test]
fn tests_are_left_out() {
    let text = "fn f() {}\n#[cfg(test)]\nmod fixtures;\n#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(test_modules(text).collect::<Vec<_>>(), ["fixtures"]);
    assert_eq!(without_tests(text), "fn f() {}\n#[cfg(test)]\nmod fixtures;\n");
    assert_eq!(module_path(Path::new("a/b.rs"), "c"), Path::new("a/b/c"));
    assert_eq!(module_path(Path::new("a/lib.rs"), "c"), Path::new("a/c"));
}
