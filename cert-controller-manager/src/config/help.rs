//! Texts of the help.

use super::{
    controllers::SourceController,
    flags::{Flag, MANAGER},
};

/// The description of a flag, with default and prefixes.
#[must_use]
pub fn describe(flag: &Flag) -> String {
    let mut text = flag.help.to_owned();
    if let Some(default) = shown_default(flag) {
        text.push_str(&format!(" [default: {default}]"));
    }
    // The description of the behavior without a value contains the variable.
    if let Some(variable) = flag.variable.filter(|_| flag.unset.is_empty()) {
        text.push_str(&format!(" [env: {variable}]"));
    }
    if let Some(why) = flag.idle {
        text.push_str(&format!(" [no effect: {why}]"));
    }
    if !flag.bare {
        let others = flag.prefixes.iter().skip(1).map(|prefix| format!("--{prefix}.{}", flag.name));
        text.push_str(&format!(" (also {})", others.collect::<Vec<_>>().join(", ")));
    }
    text
}

/// The default, unless it is obvious.
fn shown_default(flag: &Flag) -> Option<&'static str> {
    [flag.unset, flag.default]
        .into_iter()
        .find(|text| !text.is_empty())
        .filter(|text| *text != "false" && flag.idle.is_none())
}

/// The end of `-h`.
#[must_use]
pub fn after_short() -> String {
    let flags = MANAGER.iter().filter(|flag| !flag.is_pool()).count();
    format!("These are the most common flags; --help shows all {flags}.")
}

/// The end of `--help`.
#[must_use]
pub fn after_long() -> String {
    let sources = SourceController::NAMES.join(", ");
    format!(
        "Prefixes: a flag of a controller may have its name as prefix, and then overrides the shared flag:\n  \
     --issuer.renewal-window=240h, --ingress-cert.cert-class=mine. Controllers: issuer,\n  \
     {sources}.\n\n\
     Pools: --pool.size, --pool.resync-period and their forms with the name of a controller, a pool or\n  \
     both (--issuer.default.pool.size) are accepted and have no effect.\n\n\
     The configuration file may contain every flag, without dashes; the command line overrides it."
    )
}
