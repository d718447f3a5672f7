//! Logs: for a terminal, or as JSON. Always on stderr.

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging. `STEMMA_LOG` says what is logged, `info` without it.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_env("STEMMA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => {
            let colours = std::env::var_os("NO_COLOR").is_none()
                && std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).init();
        }
    }
}
