//! `generate`: prints files, or writes them.

use std::{io::Write, path::Path};

use anyhow::Context;

use crate::{
    config,
    generate::{What, crds, yaml},
};

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

/// Names and contents.
fn files(what: What) -> anyhow::Result<Vec<(&'static str, String)>> {
    match what {
        What::Crds => {
            crds().iter().map(|(name, definition)| Ok((*name, yaml(definition)?))).collect()
        }
        What::Flags => Ok(vec![("flags.md", config::reference())]),
    }
}
