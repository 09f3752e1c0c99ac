//! The checks of words and commit subjects in `.ci`, on temporary repositories.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, ensure};
use tests::locate;

/// A listed word, and an identifier that contains it. Both are concatenated, because the check also
/// reads this file.
const WORD: &str = concat!("sl", "aves");
const IDENTIFIER: &str = concat!("Sl", "avesAt");
const BEFORE: &str = "2026-11-30T12:00:00Z";
const BASE: &str = "2026-11-30T13:00:00Z";
const AFTER: &str = "2026-11-30T14:00:00Z";

struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Result<Self> {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        let repository = Self(path);
        repository.git(&["init", "--quiet"], BASE)?;
        Ok(repository)
    }

    fn git(&self, arguments: &[&str], time: &str) -> Result<String> {
        let output = Command::new("git")
            .args(["-c", "user.name=test", "-c", "user.email=test@example.org"])
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_COMMITTER_DATE", time)
            .current_dir(&self.0)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    fn add(&self, file: &str, text: &str) -> Result<()> {
        fs::write(self.0.join(file), text)?;
        self.git(&["add", file], BASE)?;
        Ok(())
    }

    /// The id of a new commit.
    fn commit(&self, length: usize, time: &str) -> Result<String> {
        let subject = "x".repeat(length);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", &subject], time)?;
        self.git(&["rev-parse", "HEAD"], time)
    }

    /// The output of a failed check; empty if it succeeds.
    fn check(&self, script: &str, environment: &[(&str, &str)]) -> Result<Option<String>> {
        let output = Command::new(locate::checkout().join(".ci").join(script))
            .envs(environment.iter().copied())
            .current_dir(&self.0)
            .output()?;
        let text = String::from_utf8([output.stdout, output.stderr].concat())?;
        Ok((!output.status.success()).then_some(text))
    }
}

#[test]
fn a_listed_word_fails_with_its_place_and_replacement() -> Result<()> {
    let repository = Repository::new("listed")?;
    repository.add("a.md", &format!("a good line\nall {} of an object\n", WORD.to_uppercase()))?;
    repository.add("b.rs", &format!("fn take_{WORD}() {{}}\nstruct {IDENTIFIER};\n"))?;
    let found = repository.check("words", &[])?.unwrap_or_default();
    for place in ["a.md:2", "b.rs:1", "b.rs:2"] {
        let line = found.lines().find(|line| line.starts_with(&format!("{place}: ")));
        ensure!(line.is_some_and(|line| line.ends_with(" → owned certificate")), "{found}");
    }
    ensure!(found.lines().count() == 4, "{found}");
    Ok(())
}

#[test]
fn a_part_of_a_longer_word_passes() -> Result<()> {
    let repository = Repository::new("longer")?;
    repository.add("a.md", &format!("en{WORD} {WORD}hip\n"))?;
    assert_eq!(repository.check("words", &[])?, None);
    Ok(())
}

#[test]
fn every_entry_of_the_list_has_a_replacement() -> Result<()> {
    let list = locate::read(".ci/words.tsv")?;
    let entries: Vec<&str> =
        list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    ensure!(entries.len() > 20, "{list}");
    for entry in entries {
        let parts: Vec<&str> = entry.split('\t').collect();
        ensure!(parts.len() == 2 && parts.iter().all(|part| !part.trim().is_empty()), "{entry}");
    }
    Ok(())
}

#[test]
fn only_subjects_after_the_base_commit_are_checked() -> Result<()> {
    let repository = Repository::new("subjects")?;
    let base = repository.commit(73, BASE)?;
    let environment = [("SUBJECTS_BASE", base.as_str())];
    repository.commit(72, AFTER)?;
    assert_eq!(repository.check("subjects", &environment)?, None);
    repository.commit(73, AFTER)?;
    let found = repository.check("subjects", &environment)?.unwrap_or_default();
    ensure!(found.contains("73 characters"), "{found}");
    Ok(())
}

#[test]
fn without_the_base_commit_the_time_selects_the_subjects() -> Result<()> {
    let repository = Repository::new("no_base")?;
    repository.commit(73, BEFORE)?;
    repository.commit(72, AFTER)?;
    let missing = "0".repeat(40);
    let environment = [("SUBJECTS_BASE", missing.as_str()), ("SUBJECTS_BASE_TIME", BASE)];
    assert_eq!(repository.check("subjects", &environment)?, None);
    repository.commit(73, AFTER)?;
    ensure!(repository.check("subjects", &environment)?.is_some(), "no subject is found");
    Ok(())
}
