//! Parses the command line, which is generated from the table of flags.

use std::ffi::OsString;

use anyhow::{anyhow, bail};
use clap::{
    Arg, ArgAction, ArgMatches, Command as Clap,
    builder::EnumValueParser,
    error::{ContextKind, ErrorKind},
};

use super::{
    file,
    flags::{self, ANSWER, Flag, Kind, MANAGER},
    help,
    outcome::{Command, Outcome},
    read,
    values::{Environment, Origin, Values},
};

/// Parses the command line, with the configuration file and the environment.
///
/// # Errors
/// For invalid flags; the message has one line with the flag, the value, and what is allowed.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    environment: &Environment,
) -> anyhow::Result<Outcome> {
    let matches = match clap().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Ok(Outcome::Show(error)),
            _ => return Err(one_line(&error)),
        },
    };
    let command = match matches.subcommand() {
        None => run(&matches, environment)?,
        Some(("run", matches)) => run(matches, environment)?,
        Some(("answer", matches)) => {
            let mut values = Values::new(ANSWER, environment)?;
            set_flags(matches, ANSWER, &mut values)?;
            Command::Answer(Box::new(read::answer_args(&values, environment)?))
        }
        Some(("generate", matches)) => {
            let Some(what) = matches.get_one("what") else {
                bail!("generate: the kind of files is missing")
            };
            let directory = matches.get_one::<String>("directory").map(Into::into);
            Command::Generate { what: *what, directory }
        }
        Some((_, _)) => Command::Version,
    };
    Ok(Outcome::Do(command))
}

fn run(matches: &ArgMatches, environment: &Environment) -> anyhow::Result<Command> {
    let mut values = Values::new(MANAGER, environment)?;
    let paths = matches.get_many::<String>("config").into_iter().flatten();
    if let Some(path) = paths.last().filter(|path| !path.is_empty()) {
        file::load(path.as_ref(), &mut values)?;
    }
    set_flags(matches, MANAGER, &mut values)?;
    Ok(Command::Run(Box::new(read::settings(&values, environment)?)))
}

fn set_flags(
    matches: &ArgMatches,
    flags: &'static [Flag],
    values: &mut Values,
) -> anyhow::Result<()> {
    for spelling in flags.iter().flat_map(Flag::spellings) {
        if let Some(texts) = matches.get_many::<String>(&spelling) {
            values.set(&spelling, texts.cloned().collect(), Origin::CommandLine)?;
        }
    }
    Ok(())
}

/// The version, with the commit if the build sets `BUILD_COMMIT`.
#[must_use]
pub fn version() -> String {
    match option_env!("BUILD_COMMIT") {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The definition of the command line.
#[must_use]
pub fn clap() -> Clap {
    with_flags(Clap::new("cert-controller-manager"), MANAGER)
        .about("Manages X.509 certificates for fleets of Kubernetes clusters")
        .version(version())
        .args_conflicts_with_subcommands(true)
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .help("Print the version")
                .action(ArgAction::Version),
        )
        .subcommand(
            with_flags(Clap::new("run"), MANAGER)
                .about("Manage certificates (the default command)"),
        )
        .subcommand(
            with_flags(Clap::new("answer"), ANSWER)
                .about("Answer DNS queries for challenge records instead of a DNS provider"),
        )
        .subcommand(
            Clap::new("generate")
                .about("Generate CRDs, roles and reference pages")
                .arg(
                    Arg::new("what")
                        .help("Files to generate")
                        .required(true)
                        .value_parser(EnumValueParser::<crate::cli::GeneratedFiles>::new()),
                )
                .arg(
                    Arg::new("directory")
                        .long("directory")
                        .value_name("DIRECTORY")
                        .help("Write files to this directory instead of standard output"),
                ),
        )
        .subcommand(Clap::new("version").about("Print the version"))
}

fn with_flags(command: Clap, flags: &'static [Flag]) -> Clap {
    let arguments = flags.iter().flat_map(|flag| {
        flag.spellings().enumerate().map(move |(index, spelling)| argument(flag, spelling, index))
    });
    let command = command.args_override_self(true).args(arguments);
    match std::ptr::eq(flags, MANAGER) {
        true => command.after_help(help::after_short()).after_long_help(help::after_long()),
        false => command,
    }
}

/// One spelling of a flag. Values are strings here; [`Values`] validates those of all origins.
fn argument(flag: &'static Flag, spelling: String, index: usize) -> Arg {
    let argument = Arg::new(spelling.clone())
        .long(spelling)
        .help(help::describe(flag))
        .help_heading(flag.heading.title())
        .value_name(flag.kind.value_name())
        .hide(index > 0 || flag.is_pool())
        .hide_short_help(!flag.common)
        .action(if flag.kind.repeats() { ArgAction::Append } else { ArgAction::Set });
    let argument = match flag.short.filter(|_| index == 0) {
        Some(letter) => argument.short(letter),
        None => argument,
    };
    if flag.kind == Kind::Bool {
        // As in upstream, `--flag false` is the flag and another argument.
        return argument.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    argument.num_args(1).allow_hyphen_values(true)
}

/// Formats an error of the command line in one line.
fn one_line(error: &clap::Error) -> anyhow::Error {
    let context = |kind| error.get(kind).map(ToString::to_string);
    let unknown = context(ContextKind::InvalidArg).or(context(ContextKind::InvalidSubcommand));
    match (error.kind(), unknown) {
        (ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand, Some(word)) => {
            unknown_word(&word)
        }
        (ErrorKind::InvalidValue, Some(flag))
            if context(ContextKind::InvalidValue).is_none_or(|it| it.is_empty()) =>
        {
            anyhow!("{} needs a value", flag.replace("=<", " <"))
        }
        _ => {
            // The rest of the message refers to the help.
            let text = error.to_string();
            let lines: Vec<&str> =
                text.lines().take_while(|it| !it.is_empty()).map(str::trim).collect();
            anyhow!("{}", lines.join(" ").trim_start_matches("error: "))
        }
    }
}

fn unknown_word(word: &str) -> anyhow::Error {
    let Some(name) = word.strip_prefix("--") else {
        let what = if word.starts_with('-') { "flag" } else { "command" };
        return anyhow!("unknown {what} {word}; see --help");
    };
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    match flags::nearest(MANAGER, name) {
        Some(near) => anyhow!("unknown flag --{name}; did you mean --{near}?"),
        None => anyhow!("unknown flag --{name}; see --help"),
    }
}
