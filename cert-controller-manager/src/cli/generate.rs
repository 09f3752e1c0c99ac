//! `generate`: prints files, or writes them.

use std::{io::Write, path::Path};

use anyhow::Context;

use crate::generate::{What, files};

pub(super) fn main(what: What, directory: Option<&Path>) -> anyhow::Result<()> {
    for (name, text) in files(what)? {
        match directory {
            Some(directory) => {
                let path = directory.join(name);
                std::fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            // A reader that has seen enough is no error.
            None => {
                let separator = if name.ends_with(".yaml") { "---\n" } else { "" };
                drop(write!(std::io::stdout(), "{separator}{text}"));
            }
        }
    }
    Ok(())
}
