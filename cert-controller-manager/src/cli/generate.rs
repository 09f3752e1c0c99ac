//! `generate`: prints files, or writes them.

use std::{io::Write, path::Path};

use anyhow::Context;

use crate::generate::{What, crds, yaml};

pub(super) fn main(what: What, directory: Option<&Path>) -> anyhow::Result<()> {
    let files = match what {
        What::Crds => crds(),
    };
    for (name, definition) in files {
        let text = yaml(&definition)?;
        match directory {
            Some(directory) => {
                let path = directory.join(name);
                std::fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
            // A reader that has seen enough is no error.
            None => drop(write!(std::io::stdout(), "---\n{text}")),
        }
    }
    Ok(())
}
