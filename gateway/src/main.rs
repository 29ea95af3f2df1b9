//! The `waystation` command: a table of contents.
//!
//! Exit status: 0 done; 1 it did not work; 64 the command line or the configuration is wrong, nothing was begun
//! (`EX_USAGE` of sysexits.h). A configuration that the system does not give at the moment is status 1: try again.

mod cli;

use std::process::ExitCode;

use cli::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = match Arguments::read() {
        Ok(arguments) => arguments,
        Err(exit) => return exit,
    };
    waystation::tls::install_provider();
    let outcome = match &arguments.command {
        Command::Run(run) => cli::run(run, arguments.log_level()),
        Command::CheckConfig(check) => cli::check_config(check),
        Command::Echo(echo) => echo.run(),
        Command::Send(send) => send.peer.call(&send.url).and_then(|call| cli::backend::send(&call, &send.paths)),
        Command::Status(ask) => cli::backend::status(&ask.data, ask.json),
        Command::Link(link) => cli::link::run(link),
        Command::Receipts(receipts) => cli::backend::receipts(&receipts.ask.data, receipts.ask.json, receipts.state),
        Command::Studies(studies) => cli::studies::run(studies),
        Command::Why(why) => cli::studies::why(why),
        Command::Receipt(receipt) => cli::receipt::run(receipt),
        Command::Retry(retry) => cli::studies::retry(retry),
        Command::Door(door) => cli::door::run(door),
        Command::Route(route) => cli::route::run(route),
        Command::Ledger(ledger) => cli::ledger::run(ledger),
        Command::Spool(spool) => cli::offline::run(spool, arguments.log_level()),
        Command::Phantom(phantom) => cli::backend::phantom(&phantom.folder, phantom.slices),
    };
    cli::exit_code(outcome)
}
