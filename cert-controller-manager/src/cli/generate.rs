//! `generate`: prints files.

use std::io::Write;

use crate::generate::{What, crds, yaml};

pub(super) fn main(what: What) -> anyhow::Result<()> {
    match what {
        What::Crds => {
            let mut text = String::new();
            for (_, definition) in crds() {
                text.push_str("---\n");
                text.push_str(&yaml(&definition)?);
            }
            // A reader that has seen enough is no error.
            let _ = std::io::stdout().write_all(text.as_bytes());
        }
    }
    Ok(())
}
