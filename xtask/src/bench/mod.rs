//! Measurements: each figure beside what the machine itself can do, in one run.
//!
//! Nothing here passes or fails. Figures are for `docs/performance.md`; compare ratios, since the
//! absolute numbers move with the machine.

mod append;
mod documents;
mod graph;
mod growth;
mod live;
mod load;
mod machine;
mod neo4j;
mod nginx;
mod plot;
mod postgres;
mod probe;
mod read;
mod rebuild;
mod redis;
mod server;
mod soak;
mod table;
mod tenants;
mod umadb;

use clap::Parser;

/// What to measure: everything but the soak where nothing is named.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Put the tables into docs/performance.md, and the plots beside it
    #[arg(long, global = true)]
    keep: bool,
    #[command(subcommand)]
    measure: Option<Measure>,
}

#[derive(clap::Subcommand)]
enum Measure {
    /// Durable writes over HTTP, beside the floor, the disk, Redis and PostgreSQL (P1, P2).
    Append(append::Args),
    /// Views folded from the log again, beside reading the log alone (P3).
    Rebuild(rebuild::Args),
    /// A durable write to a thousand listeners, beside the floor (P4).
    Live(live::Args),
    /// Documents and large content read over HTTP, beside nginx (P5).
    Read(read::Args),
    /// A log that grows to ten million events, measured on the way (P3b, P3c, P6, P7, P9).
    Growth(growth::Args),
    /// A million relations: feeding, rebuilding, neighbors, paths, lists, Cypher.
    Graph(graph::Args),
    /// Uploads beside long queues, claims, jobs a second, the whole pipeline, searching (P8).
    Documents(documents::Args),
    /// Two thousand tenants, twenty of them in use: memory, files, the first request (C5).
    Tenants(tenants::Args),
    /// A mixed load for an hour with two thousand listeners that come and go.
    Soak(soak::Args),
}

/// The parts of a run of everything, each with its defaults.
const ALL: [&str; 8] = [
    "append",
    "rebuild",
    "live",
    "read",
    "documents",
    "graph",
    "tenants",
    "growth",
];

#[derive(Parser)]
struct Named {
    #[command(subcommand)]
    measure: Measure,
}

/// Measures.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Some(measure) = args.measure else {
        for name in ALL {
            println!("\n{name}\n");
            let named = Named::try_parse_from(["bench", name])?;
            one(&named.measure, true)?;
        }
        return table::place("machine", &machine::described());
    };
    one(&measure, args.keep)
}

fn one(measure: &Measure, keep: bool) -> anyhow::Result<()> {
    match measure {
        Measure::Append(args) => append::run(args, keep),
        Measure::Rebuild(args) => rebuild::run(args, keep),
        Measure::Live(args) => live::run(args, keep),
        Measure::Read(args) => read::run(args, keep),
        Measure::Documents(args) => documents::run(args, keep),
        Measure::Growth(args) => growth::run(args, keep),
        Measure::Graph(args) => graph::run(args, keep),
        Measure::Tenants(args) => tenants::run(args, keep),
        Measure::Soak(args) => soak::run(args, keep),
    }
}
