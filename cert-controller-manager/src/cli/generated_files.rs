//! The kinds of files that the command `generate` prints.

/// A kind of generated files.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum GeneratedFiles {
    /// CustomResourceDefinitions
    Crds,
    /// Reference of flags, as Markdown
    Flags,
    /// Roles of the manager, one file for each logical cluster
    Roles,
    /// Reference of permissions, as Markdown
    Access,
    /// Reference of metrics, as Markdown
    Metrics,
}
