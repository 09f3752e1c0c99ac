//! Reads a kubeconfig and the files that it refers to, with a size limit and a digest of all content.

use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use zeroize::Zeroizing;

/// Maximum size of a file.
const MAX_SIZE: u64 = 4 << 20;

/// Reads files and hashes their content.
pub(super) struct Reader(Hash);

impl Reader {
    pub(super) fn new() -> Self {
        Self(Hash::new(&SHA256))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read; the message add_path it.
    pub(super) fn read(&mut self, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let content = bounded(path)?;
        self.add(&content);
        Ok(content)
    }

    /// Adds only the path of a file to the digest: the file is read later, and its content may change.
    pub(super) fn add_path(&mut self, path: &Path) {
        self.add(path.as_os_str().as_encoded_bytes());
    }

    pub(super) fn digest(self) -> Vec<u8> {
        self.0.finish().as_ref().to_vec()
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&bytes.len().to_be_bytes());
        self.0.update(bytes);
    }
}

/// Reads a file up to the size limit.
///
/// # Errors
/// When the file cannot be read or is too large.
pub(super) fn bounded(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut content));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let fits = content.len() as u64 <= MAX_SIZE;
    ensure!(fits, "{} is larger than {MAX_SIZE} bytes", path.display());
    Ok(content)
}

/// Decodes UTF-8, or UTF-16 with a byte order mark.
///
/// # Errors
/// For other encodings.
pub(super) fn text(content: &[u8]) -> anyhow::Result<Cow<'_, str>> {
    let utf16 = |rest: &[u8], unit: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = rest.as_chunks().0.iter().copied().map(unit).collect();
        String::from_utf16(&units).map(Cow::Owned).context("not UTF-16")
    };
    match content {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => {
            std::str::from_utf8(rest).map(Cow::Borrowed).context("not UTF-8")
        }
    }
}

/// The directory of a file, which is the base of relative paths.
///
/// # Errors
/// When there is no current directory.
pub(super) fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot find the directory of {}", path.display()))?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
}
