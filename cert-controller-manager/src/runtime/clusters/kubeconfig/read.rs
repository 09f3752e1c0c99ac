//! Reading a kubeconfig and the files that it names: each once, bounded, and with a digest of all that was read.

use std::{
    borrow::Cow,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use zeroize::Zeroizing;

/// No kubeconfig, certificate or token is larger.
const LARGEST: u64 = 4 << 20;

/// Hashes what is read.
pub(super) struct Reader(Hash);

impl Reader {
    pub(super) fn new() -> Self {
        Self(Hash::new(&SHA256))
    }

    /// The content of a file.
    ///
    /// # Errors
    /// When it cannot be read; the message names it.
    pub(super) fn read(&mut self, path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        let content = bounded(path)?;
        self.add(&content);
        Ok(content)
    }

    /// Notes a file that is read later, again and again: another path is another kubeconfig, other content is not.
    pub(super) fn names(&mut self, path: &Path) {
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

/// The content of a file of bounded size.
///
/// # Errors
/// When it cannot be read or is too large.
pub(super) fn bounded(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut content = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut content));
    read.with_context(|| format!("cannot read {}", path.display()))?;
    let fits = content.len() as u64 <= LARGEST;
    ensure!(fits, "{} is larger than {LARGEST} bytes", path.display());
    Ok(content)
}

/// Decodes a text file, which begins with a byte order mark where it is UTF-16.
///
/// # Errors
/// When it is something else.
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

/// The directory where relative paths of a file begin.
///
/// # Errors
/// When there is no current directory.
pub(super) fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot find the directory of {}", path.display()))?;
    Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
}
