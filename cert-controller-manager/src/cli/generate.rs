//! The command `generate`: prints generated files, or writes them to a directory.

use std::{io::Write, path::Path};

use anyhow::Context;

use super::generated_files::GeneratedFiles;
use crate::generate::files;

pub(super) fn main(what: GeneratedFiles, directory: Option<&Path>) -> anyhow::Result<()> {
    for (name, text) in files(what)? {
        match directory {
            Some(directory) => {
                let path = directory.join(name);
                std::fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            // A closed pipe is not an error.
            None => {
                let separator = if name.ends_with(".yaml") { "---\n" } else { "" };
                drop(write!(std::io::stdout(), "{separator}{text}"));
            }
        }
    }
    Ok(())
}
