//! The command line, built from the tables of flags.

use std::ffi::OsString;

use anyhow::{anyhow, bail};
use clap::{
    Arg, ArgAction, ArgMatches, Command as Clap,
    builder::EnumValueParser,
    error::{ContextKind, ErrorKind},
};

use super::{
    Command, Outcome, file,
    flags::{self, ANSWER, Flag, Kind, MANAGER},
    help, read,
    values::{Environment, Origin, Values},
};

/// Reads the command line, the file that it names and the environment.
///
/// # Errors
/// One line: the flag, the value, what is allowed.
pub fn parse(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    around: &Environment,
) -> anyhow::Result<Outcome> {
    let matches = match clap().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => return Ok(Outcome::Show(error)),
            _ => return Err(one_line(&error)),
        },
    };
    let command = match matches.subcommand() {
        None => run(&matches, around)?,
        Some(("run", matches)) => run(matches, around)?,
        Some(("answer", matches)) => {
            let mut values = Values::new(ANSWER, around)?;
            give(matches, ANSWER, &mut values)?;
            Command::Answer(Box::new(read::answer_args(&values)?))
        }
        Some(("generate", matches)) => {
            let Some(what) = matches.get_one("what") else { bail!("generate what?") };
            let directory = matches.get_one::<String>("directory").map(Into::into);
            Command::Generate { what: *what, directory }
        }
        Some((_, _)) => Command::Version,
    };
    Ok(Outcome::Do(command))
}

fn run(matches: &ArgMatches, around: &Environment) -> anyhow::Result<Command> {
    let mut values = Values::new(MANAGER, around)?;
    let paths = matches.get_many::<String>("config").into_iter().flatten();
    if let Some(path) = paths.last().filter(|path| !path.is_empty()) {
        file::load(path.as_ref(), &mut values)?;
    }
    give(matches, MANAGER, &mut values)?;
    Ok(Command::Run(Box::new(read::settings(&values, around)?)))
}

fn give(matches: &ArgMatches, flags: &'static [Flag], values: &mut Values) -> anyhow::Result<()> {
    for spelling in flags.iter().flat_map(Flag::spellings) {
        if let Some(texts) = matches.get_many::<String>(&spelling) {
            values.give(&spelling, texts.cloned().collect(), Origin::CommandLine)?;
        }
    }
    Ok(())
}

/// The version, and the commit where whoever built this said it (`BUILD_COMMIT`).
#[must_use]
pub fn version() -> String {
    match option_env!("BUILD_COMMIT") {
        Some(commit) => format!("{} ({commit})", env!("CARGO_PKG_VERSION")),
        None => env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The whole command line.
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
                .about("Manage certificates (what happens without a command, too)"),
        )
        .subcommand(
            with_flags(Clap::new("answer"), ANSWER)
                .about("Answer DNS queries for challenge records, in place of a DNS provider"),
        )
        .subcommand(
            Clap::new("generate")
                .about("Print files that are generated from the program")
                .arg(
                    Arg::new("what")
                        .help("What to print")
                        .required(true)
                        .value_parser(EnumValueParser::<crate::generate::What>::new()),
                )
                .arg(
                    Arg::new("directory")
                        .long("directory")
                        .value_name("DIRECTORY")
                        .help("Write files into this directory instead of printing"),
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

/// One spelling of a flag. Values are texts: all are checked in one place, wherever they come from.
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
        // As in upstream: `--flag false` would be the flag and then a word.
        return argument.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    argument.num_args(1).allow_hyphen_values(true)
}

/// What is wrong with the command line, in one line.
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
            // The rest is about where to find help.
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
        return anyhow!("unknown {what} {word}; --help shows all of them");
    };
    let name = name.split_once('=').map_or(name, |(name, _)| name);
    match flags::nearest(MANAGER, name) {
        Some(near) => anyhow!("unknown flag --{name}; did you mean --{near}?"),
        None => anyhow!("unknown flag --{name}; --help shows all of them"),
    }
}
