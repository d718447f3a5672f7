//! The commands, one module each.

mod against;
mod backup;
mod config;
mod events;
mod import;
mod job_errors;
mod jobs;
mod prove;
mod rebuild;
mod serve;
mod stats;
mod tenant;
pub(crate) mod token;
mod upload;
pub(crate) mod verify;
mod verify_all;
mod worker;

use std::io::Write;

use clap::CommandFactory;

use crate::cli::{Cli, Command, Common, LogFormat, TenantCommand};
use crate::config::{Settings, data_dir};
use crate::exit::{Exit, ReaderGone, Usage};
use crate::interrupt;
use crate::logging;

/// Runs a command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<Exit> {
    let common = &cli.common;
    let (listen, graph) = match &cli.command {
        Command::Serve(serve) => (serve.listen.clone(), serve.graph.clone()),
        _ => (None, None),
    };
    if let Command::Completions { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "stemma", &mut script);
        answer(String::from_utf8_lossy(&script).trim_end())?;
        return Ok(Exit::Done);
    }
    if let Command::ParseDocument = cli.command {
        let _left_to_parent = interrupt::left_to_parent()?;
        stemma_pipeline::child::main(std::io::stdin(), std::io::stdout())?;
        return Ok(Exit::Done);
    }
    let data = common.data.as_ref().map(|dir| dir.display().to_string());
    // An address says that the graph is in Neo4j, and where.
    let (mode, uri) = match graph {
        Some(uri) if uri.contains("://") => (Some("neo4j".to_owned()), Some(uri)),
        mode => (mode, None),
    };
    let settings = Settings::load(
        common,
        &[
            ("listen", listen),
            ("graph.mode", mode),
            ("graph.uri", uri),
            ("data_dir", data),
        ],
    )?;
    match cli.command {
        Command::Serve(serve) => {
            logging::start(serve.log_format);
            serve::run(common, &settings, &serve)
        }
        Command::Completions { .. } | Command::ParseDocument => Ok(Exit::Done),
        other => {
            logging::start(LogFormat::Text);
            if !works_through_a_server(&other) && common.server.is_some() {
                let why =
                    "this command reads a directory and not through a server; leave --server out";
                return Err(Usage(why.to_owned()).into());
            }
            must_name_data(common, &settings, &other)?;
            interrupt::listen()?;
            match other {
                Command::Import(import) => import::run(common, &settings, &import),
                Command::Upload(upload) => upload::run(common, &upload),
                Command::Jobs(jobs) => jobs::run(common, &jobs),
                Command::Worker(worker) => worker::run(common, &settings, &worker),
                Command::Events(events) => events::run(common, &settings, &events),
                Command::Stats => stats::run(common, &settings),
                Command::Verify(verify) => verify::run(common, &settings, &verify),
                Command::Prove(prove) => prove::prove(common, &settings, &prove),
                Command::Check(check) => prove::check(common, &check),
                Command::Rebuild(rebuild) => rebuild::run(common, &settings, &rebuild),
                Command::Backup(asked) => backup::run(common, &settings, &asked),
                Command::Restore(asked) => backup::restore(common, &settings, &asked),
                Command::Tenant(tenant) => tenant::run(common, &settings, &tenant.command),
                Command::Token(token) => token::run(common, &settings, &token.command),
                Command::Config(config) => config::run(common, &settings, &config),
                Command::Serve(_) | Command::Completions { .. } | Command::ParseDocument => {
                    Ok(Exit::Done)
                }
            }
        }
    }
}

/// Fails where somebody who works through a server asks for what works on a directory, and none is
/// there: it would be made anew, or the answer would be of nothing.
fn must_name_data(common: &Common, settings: &Settings, command: &Command) -> anyhow::Result<()> {
    let moves = |command: &TenantCommand| {
        matches!(command, TenantCommand::Export(_) | TenantCommand::Import(_))
    };
    let is_on_a_directory = match command {
        Command::Tenant(tenant) => moves(&tenant.command),
        Command::Config(_) | Command::Check(_) => false,
        other => !works_through_a_server(other),
    };
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_configured = settings.text("data_dir").is_some();
    let is_named = common.data.is_some() || is_set("STEMMA_DATA") || is_configured;
    let dir = data_dir(common, Some(settings));
    if is_on_a_directory && is_set("STEMMA_SERVER") && !is_named && !dir.is_dir() {
        let why = format!(
            "this command works on a directory and not through the server that STEMMA_SERVER names, and {} is not there; name the directory with --data",
            dir.display()
        );
        return Err(Usage(why).into());
    }
    Ok(())
}

fn works_through_a_server(command: &Command) -> bool {
    matches!(
        command,
        Command::Import(_)
            | Command::Upload(_)
            | Command::Jobs(_)
            | Command::Worker(_)
            | Command::Events(_)
            | Command::Prove(_)
            | Command::Tenant(_)
            | Command::Token(_)
    )
}

/// Writes a line of the answer. A reader that has gone ends the command quietly, unless its status
/// is an answer too: see [`though_unread`].
pub(crate) fn answer(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        other => Ok(other?),
    }
}

/// Goes on where whoever read the answer has gone: what was found is told by the status as well.
pub(crate) fn though_unread(told: anyhow::Result<()>) -> anyhow::Result<()> {
    match told {
        Err(error) if error.is::<ReaderGone>() => Ok(()),
        told => told,
    }
}
