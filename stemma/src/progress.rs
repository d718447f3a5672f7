//! Progress on stderr: a bar on a terminal, else a line every few seconds.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Most files that have a bar of their own at a time.
const BARS_MAX: usize = 12;

/// How far some work is.
pub(crate) struct Progress {
    what: String,
    bar: Option<ProgressBar>,
    last_line: Instant,
}

impl Progress {
    /// Begins to tell of work with this many steps, 0 when it is not known yet.
    pub(crate) fn new(what: &str, total: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bar = is_terminal.then(|| {
            let bar = ProgressBar::new(total);
            let style =
                ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_message(what.to_owned());
            bar
        });
        Self {
            what: what.to_owned(),
            bar,
            last_line: Instant::now(),
        }
    }

    /// Tells how far it is.
    #[allow(clippy::print_stderr)]
    pub(crate) fn set(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
            bar.set_position(done);
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            eprintln!("{}: {done} of {total}", self.what);
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How far the files of some work are: a bar for the whole, and one for each file at work.
pub(crate) struct FilesProgress {
    bars: Option<(MultiProgress, ProgressBar)>,
    each: HashMap<String, ProgressBar>,
    at_work: String,
    last_line: Instant,
}

impl FilesProgress {
    /// Begins to tell of work with this many steps.
    pub(crate) fn new(total: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bars = is_terminal.then(|| {
            let bars = MultiProgress::new();
            let whole = bars.add(ProgressBar::new(total));
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}");
            whole.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            (bars, whole)
        });
        Self {
            bars,
            each: HashMap::new(),
            at_work: String::new(),
            last_line: Instant::now(),
        }
    }

    /// Tells how far a file is, in percent, and what is done with it.
    pub(crate) fn at(&mut self, file: &str, percent: u64, doing: &str) {
        let Some((bars, _)) = &self.bars else {
            self.at_work = format!("{file}: {doing}");
            return;
        };
        if !self.each.contains_key(file) {
            if self.each.len() >= BARS_MAX {
                return;
            }
            let bar = bars.add(ProgressBar::new(100));
            let style =
                ProgressStyle::with_template("  {prefix:32!} {bar:20} {pos:>3}% {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(file.to_owned());
            self.each.insert(file.to_owned(), bar);
        }
        if let Some(bar) = self.each.get(file) {
            bar.set_position(percent);
            bar.set_message(doing.to_owned());
        }
    }

    /// Tells that a file is not at work any more.
    pub(crate) fn left(&mut self, file: &str) {
        if let Some(bar) = self.each.remove(file) {
            bar.finish_and_clear();
        }
    }

    /// Tells how far the whole is.
    #[allow(clippy::print_stderr)]
    pub(crate) fn set(&mut self, done: u64, total: u64, told: &str) {
        if let Some((_, whole)) = &self.bars {
            whole.set_position(done);
            whole.set_message(told.to_owned());
        } else if self.last_line.elapsed() >= LINE_EVERY {
            self.last_line = Instant::now();
            let at_work = std::mem::take(&mut self.at_work);
            let at_work = if at_work.is_empty() { "…" } else { &at_work };
            eprintln!("{done} of {total}: {told}; {at_work}");
        }
    }

    /// Says something above the bars.
    #[allow(clippy::print_stderr)]
    pub(crate) fn say(&self, line: &str) {
        match &self.bars {
            Some((bars, _)) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Ends it.
    pub(crate) fn finish(self) {
        if let Some((bars, whole)) = self.bars {
            whole.finish_and_clear();
            // What cannot be cleared is a terminal that is gone.
            let _ = bars.clear();
        }
    }
}
