//! `generate`: prints files.

use std::io::Write;

use crate::generate::{What, crds, yaml};

pub(super) fn main(what: What) -> anyhow::Result<()> {
    match what {
        What::Crds => {
            let mut out = std::io::stdout().lock();
            for (_, definition) in crds() {
                write!(out, "---\n{}", yaml(&definition)?)?;
            }
        }
    }
    Ok(())
}
