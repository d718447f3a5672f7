//! The command line: every option with its default and unit.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// An event-sourced document store: one log, views folded from it, live streams.
#[derive(Debug, Parser)]
#[command(name = "stemma", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The tenant of whoever names none.
pub(crate) const TENANT_DEFAULT: &str = "default";

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Directory of the data [default: STEMMA_DATA, else data_dir of the configuration, else ./stemma-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Server that import, upload, jobs, worker, events, prove, token and tenant create, list and delete work through [default: STEMMA_SERVER; without either, the local directory]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// File whose first line is the token to show a server [default: STEMMA_TOKEN]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Tenant of the directory to work on; through a server it is the token's, but for token create
    #[arg(long, global = true, value_name = "NAME", default_value = TENANT_DEFAULT)]
    pub(crate) tenant: String,
    /// Configuration file [default: stemma.toml in the data directory, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Give the answer as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve the HTTP API
    Serve(Serve),
    /// Bring files in: each becomes a resource, known again by its path
    Import(Import),
    /// Upload documents to a server, and follow them until they are processed
    Upload(Upload),
    /// Look at the jobs of a server: list, show, follow, retry, cancel
    Jobs(Jobs),
    /// Process documents for a server, from a process of its own or from another machine
    ///
    /// SIGTERM and Ctrl-C: give back what is in hand, exit 0. A server that is away is asked again
    /// until it is back.
    Worker(Worker),
    /// Print the events of the log
    Events(Events),
    /// Tell sizes: head, root, events, resources, bytes of each part
    Stats,
    /// Hold log, content and views against themselves and each other
    Verify(Verify),
    /// Show that an event is in the log, as a file that is checked with a key and nothing else
    Prove(Prove),
    /// Check what `prove` gave; needs no server and no data
    Check(Check),
    /// Make derived state anew from the log
    Rebuild(Rebuild),
    /// Copy all data to a directory, also while a server runs: log, content, keys, tokens
    ///
    /// Only what is new is copied. Damage in the data: 3, and the last backup is as it was.
    Backup(Backup),
    /// Bring all data back from a backup, into a directory that is empty or not there
    Restore(Restore),
    /// Make tenants, list them, delete them, copy them to another server
    Tenant(TenantArgs),
    /// Give out tokens for the HTTP API, list them, take them back
    Token(TokenArgs),
    /// Print the settings in force, each with where it came from
    Config(Config),
    /// Parse a document from the standard input: the process that the server starts for it
    #[command(hide = true, name = crate::tools::PARSE_DOCUMENT)]
    ParseDocument,
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
    /// Load the sample corpus, and print what to try
    #[arg(long)]
    pub(crate) demo: bool,
    /// Keep the graph beside the views, in Neo4j, or not at all [default: embedded]
    #[arg(long, value_name = "embedded|none|neo4j://HOST:PORT")]
    pub(crate) graph: Option<String>,
    /// Serve what is whole and take no writes; for a log that is damaged
    #[arg(long, conflicts_with = "demo")]
    pub(crate) read_only: bool,
    /// Form of the log on stderr
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Files and directories; directories with all below them. A link that is named here is followed,
    /// links below are not
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Collection to put the resources into
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Upload {
    /// Files and directories; directories with all below them. A link that is named here is followed,
    /// links below are not
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Collection to put the documents into
    #[arg(long, value_name = "NAME")]
    pub(crate) collection: Option<String>,
    /// Where texts are cut [default: sentence]
    #[arg(long, value_name = "S", value_parser = ["sentence", "markdown", "size"])]
    pub(crate) chunking_strategy: Option<String>,
    /// Most code points of a chunk [default: that of the strategy]
    #[arg(long, value_name = "N")]
    pub(crate) chunk_size: Option<u32>,
    /// Code points that a chunk has in common with the one before it [default: that of the strategy]
    #[arg(long, value_name = "N")]
    pub(crate) chunk_overlap: Option<u32>,
    /// Open the documents to nobody but you and the admins
    #[arg(long, conflicts_with_all = ["reader", "writer"])]
    pub(crate) private: bool,
    /// Open the documents to those who are named, and not to all of the tenant; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(crate) reader: Vec<String>,
    /// The same, to read and to write
    #[arg(long, value_name = "NAME")]
    pub(crate) writer: Vec<String>,
    /// Do not wait until the documents are processed
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) command: Option<JobsCommand>,
    #[command(flatten)]
    pub(crate) list: JobsList,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobsCommand {
    /// List jobs, newest first; what `stemma jobs` does by itself
    List(JobsList),
    /// Print a job
    Show(JobNamed),
    /// Print how far a job is until it has ended; 1 when it did not end well
    Follow(JobNamed),
    /// Have a job that failed or was cancelled tried anew
    Retry(JobNamed),
    /// Stop a job, also one that a worker is at
    Cancel(JobNamed),
}

#[derive(Debug, Args)]
pub(crate) struct JobsList {
    /// Only those with this status
    #[arg(long, value_name = "S", value_parser = ["queued", "processing", "retrying", "completed", "failed", "cancelled"])]
    pub(crate) status: Option<String>,
    /// Only those of this type, such as document.process
    #[arg(long = "type", value_name = "T")]
    pub(crate) kind: Option<String>,
    /// Only those about this document
    #[arg(long, value_name = "ID")]
    pub(crate) document: Option<String>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct JobNamed {
    /// The job's id
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Worker {
    /// What the server knows it by [default: the machine's name and the process id]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Documents that are processed at a time
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) slots: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Begin behind this position; `start`, or `head` for what comes from now on [default: start]
    #[arg(long, value_name = "N|start|head")]
    pub(crate) after: Option<String>,
    /// Only this type, or `resource.*`
    #[arg(long = "type", value_name = "T")]
    pub(crate) kind: Option<String>,
    /// Only this stream
    #[arg(long, value_name = "S")]
    pub(crate) stream: Option<String>,
    /// Go on with what comes
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Look at this position only
    #[arg(long, value_name = "N")]
    pub(crate) position: Option<u64>,
    /// Log only: leave content, views and graph out
    #[arg(long)]
    pub(crate) quick: bool,
    /// Look at every tenant, and at the log of tokens
    #[arg(long, conflicts_with_all = ["position", "against"])]
    pub(crate) all_tenants: bool,
    /// File with a checkpoint that the log has to go on from
    #[arg(long, value_name = "CHECKPOINT", conflicts_with = "position")]
    pub(crate) against: Option<PathBuf>,
    /// File with the key that signed it [default: the one beside the log]
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Prove {
    /// The event's position
    #[arg(long, value_name = "N")]
    pub(crate) position: u64,
    /// How many events the proof is to lead to [default: all there are]
    #[arg(long, value_name = "S")]
    pub(crate) size: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The proof
    #[arg(value_name = "PROOF_FILE")]
    pub(crate) proof: PathBuf,
    /// File with the log's key, as `GET /api/log/key` gives it
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    /// What to rebuild
    #[arg(value_enum)]
    pub(crate) what: Rebuilt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rebuilt {
    /// The views
    Views,
    /// The graph
    Graph,
    /// The search index
    Search,
    /// All derived state
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Directory or s3://BUCKET/PREFIX to copy to; made if it is not there, gone on with if it holds a backup of this data; a directory with anything else is refused
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Leave content unread that the target has already: damage to it here is not noticed
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// Directory or s3://BUCKET/PREFIX that holds the backup
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
}

#[derive(Debug, Args)]
pub(crate) struct TenantArgs {
    #[command(subcommand)]
    pub(crate) command: TenantCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant; `token create --tenant NAME` lets somebody in
    Create(TenantNamed),
    /// List all tenants
    List,
    /// Take back the tokens of a tenant, and delete all that is of it
    Delete(TenantNamed),
    /// Copy a tenant to a directory or a store of objects, as `backup` does with all of them; its tokens stay here
    Export(TenantExport),
    /// Bring a tenant in from what `export` or `backup` made, also beside a running server
    Import(TenantImport),
}

#[derive(Debug, Args)]
pub(crate) struct TenantExport {
    /// The tenant
    pub(crate) name: String,
    /// Directory or s3://BUCKET/PREFIX to copy to; made if it is not there, gone on with if it holds a backup of this tenant; a directory with anything else is refused
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// Leave content unread that the target has already: damage to it here is not noticed
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TenantImport {
    /// Directory or s3://BUCKET/PREFIX that holds the backup
    #[arg(value_name = "SOURCE")]
    pub(crate) source: String,
    /// Which tenant of the backup [default: the only one, or the one that is called as --name]
    #[arg(long, value_name = "NAME")]
    pub(crate) from: Option<String>,
    /// What it is to be called [default: as it was called]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TenantNamed {
    /// The tenant: 1 to 64 letters, digits, dashes and underscores
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Give out a token; it is told this once
    ///
    /// From the first token on the server asks everybody for one.
    Create(TokenCreate),
    /// List all tokens that were given out
    List,
    /// Take a token back; what it opened ends at once
    Revoke(TokenRevoke),
}

#[derive(Debug, Args)]
pub(crate) struct TokenCreate {
    /// Whose token it is; events are written under this name
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) name: String,
    /// What its holder may do: reader, writer, worker or admin of the tenant, or operator of the server
    #[arg(long, value_name = "ROLE")]
    pub(crate) role: String,
    /// When it ends: a time, or how long from now, such as 12h or 30d [default: never]
    #[arg(long, value_name = "30d|TIME")]
    pub(crate) expires: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TokenRevoke {
    /// The id of the token, as `token list` tells it
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Print the reference of all settings as Markdown
    #[arg(long)]
    pub(crate) reference: bool,
    /// Print the reference of all error codes as Markdown
    #[arg(long, conflicts_with = "reference")]
    pub(crate) errors: bool,
}
