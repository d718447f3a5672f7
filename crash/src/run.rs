//! One seed: lives of the product on one disk, each with its load, its end and its recovery.

use std::fmt;
use std::sync::Arc;

use stemma_domain::id::ResourceId;

use crate::dice::Dice;
use crate::disk::{Disk, Pace};
use crate::figures::Figures;
use crate::ledger::{Ledger, Violation};
use crate::load::Condition;
use crate::process::{Process, Settings, StartError, Ticks};
use crate::request::Blob;
use crate::weather::{Class, Forecast};

/// Crashes and other ends of one seed.
const LIVES: u64 = 6;
/// Recoveries that bad weather may cut short before a calm one.
const STORMS_MAX: u64 = 3;

/// The kinds of files, those that promises rest on most most often.
const WEIGHTED: [Class; 9] = [
    Class::Segment,
    Class::Segment,
    Class::Segment,
    Class::LogBeside,
    Class::Index,
    Class::Pack,
    Class::Pack,
    Class::Blob,
    Class::ContentBeside,
];

/// A seed whose run broke a promise.
#[derive(Debug)]
pub struct Failure {
    /// The seed, to run it again.
    pub seed: u64,
    /// What does not hold.
    pub violation: String,
    /// The last operations of the disk.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            violation,
            trace,
        } = self;
        writeln!(f, "seed {seed}: {violation}")?;
        writeln!(f, "the last operations of the disk:")?;
        writeln!(f, "{trace}")?;
        writeln!(f, "again: cargo xtask crash --from {seed} --seeds 1")
    }
}

/// Everything that goes on while a seed runs.
pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) dice: Dice,
    pub(crate) disk: Disk,
    pub(crate) settings: Settings,
    pub(crate) ledger: Ledger,
    pub(crate) figures: Figures,
    pub(crate) resources: Vec<ResourceId>,
    pub(crate) blobs: Vec<Blob>,
    /// Content that could not be put, and is to be put again.
    pub(crate) refused_blobs: Vec<Blob>,
    pub(crate) next_tag: u64,
    ticks: Arc<Ticks>,
    /// How the last life ended, when that is sure.
    closed: bool,
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Power,
    Kill,
    Close,
}

/// What a seed begins with.
pub(crate) struct Start {
    seed: u64,
    dice: Dice,
    settings: Settings,
    pub(crate) disk: Disk,
}

impl Start {
    pub(crate) fn of(seed: u64, pace: Pace) -> Self {
        let mut dice = Dice::new(seed);
        let settings = Settings::by(&mut dice);
        let disk = Disk::new(dice.next(), pace);
        Self {
            seed,
            dice,
            settings,
            disk,
        }
    }
}

/// Runs a seed.
///
/// # Errors
/// The first promise that was broken.
pub(crate) fn run_from(start: Start) -> Result<Figures, Box<Failure>> {
    let Start {
        seed,
        dice,
        settings,
        disk,
    } = start;
    let mut world = World {
        seed,
        disk,
        settings,
        dice,
        ledger: Ledger::default(),
        figures: Figures {
            seeds: 1,
            ..Figures::default()
        },
        resources: Vec::new(),
        blobs: Vec::new(),
        refused_blobs: Vec::new(),
        next_tag: 0,
        ticks: Ticks::new(),
        closed: false,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without a driver needs nothing of the system");
    let done = runtime.block_on(world.live());
    world.figures.add_disk(&world.disk.figures());
    match done {
        Ok(()) => Ok(world.figures),
        Err(violation) => Err(Box::new(Failure {
            seed,
            violation,
            trace: world.disk.trace(),
        })),
    }
}

impl World {
    async fn live(&mut self) -> Result<(), Violation> {
        let mut process = None;
        for _ in 0..LIVES {
            let running = match process.take() {
                Some(running) => running,
                None => self.start_calm().await?,
            };
            if self.disk.forecast() == Forecast::CALM {
                let forecast = self.forecast(60);
                self.disk.set_weather(self.dice.next(), forecast);
            }
            let condition = self.load(&running).await;
            // The process must not outlive the judgement over it.
            let condition = match condition {
                Ok(condition) => condition,
                Err(violation) => {
                    self.disk.end();
                    running.stop();
                    return Err(violation);
                }
            };
            self.end(running, &condition);
            process = self.weather_storms()?;
        }
        if let Some(running) = process {
            self.end(running, &Condition::Unfit);
        }
        let running = self.start_calm().await?;
        running.stop();
        self.closed = true;
        let running = self.start_calm().await?;
        running.stop();
        Ok(())
    }

    /// What the next life has to expect; `changes` is how late its end may come.
    fn forecast(&mut self, changes: u64) -> Forecast {
        let fault_one_in = self
            .dice
            .pick(&[None, None, None, Some(400), Some(100), Some(30)]);
        let fault_at = self.dice.one_in(2).then(|| self.moment(changes));
        let end_at = (self.dice.below(8) > 0).then(|| self.moment(changes));
        Forecast {
            fault_one_in,
            reads_fail: self.dice.one_in(2),
            fault_at,
            end_at,
        }
    }

    /// A change of a class of files, one of the first `changes` of those that change most.
    fn moment(&mut self, changes: u64) -> (Class, u64) {
        let class = self.dice.pick(&WEIGHTED);
        let changes = match class {
            Class::Segment | Class::Pack => changes,
            _ => changes / 3 + 1,
        };
        (class, self.dice.between(1, changes))
    }

    /// Ends a life, in one way or another.
    fn end(&mut self, process: Process, condition: &Condition) {
        let ending = match condition {
            _ if self.disk.has_ended() => {
                self.dice
                    .pick(&[Ending::Power, Ending::Power, Ending::Kill])
            }
            Condition::Unfit => self.dice.pick(&[Ending::Power, Ending::Kill]),
            Condition::Fit => self
                .dice
                .pick(&[Ending::Power, Ending::Close, Ending::Kill]),
        };
        if ending == Ending::Close {
            let is_closed = process.stop();
            let is_sure = self.disk.forecast().is_without_faults();
            self.closed = is_closed && is_sure && !self.disk.has_ended();
            self.figures.closes += 1;
            if self.dice.one_in(2) {
                return self.disk.restart();
            }
        } else {
            self.disk.end();
            process.stop();
            self.closed = false;
        }
        match ending {
            Ending::Kill => {
                self.figures.kills += 1;
                self.disk.restart();
            }
            Ending::Power | Ending::Close => {
                self.figures.power_losses += 1;
                self.disk.crash();
            }
        }
    }

    /// Recoveries that may be cut short themselves. One that gets through may go on as it is.
    fn weather_storms(&mut self) -> Result<Option<Process>, Violation> {
        let storms = self.dice.between(0, STORMS_MAX);
        for _ in 0..storms {
            let forecast = self.forecast(8);
            self.disk.set_weather(self.dice.next(), forecast);
            self.ledger.life += 1;
            match Process::start(&self.disk, &self.settings, &self.ticks) {
                Ok((process, found)) => {
                    self.figures.cuts += u64::from(found.log.cut.is_some());
                    if self.dice.one_in(3) {
                        return Ok(Some(process));
                    }
                    self.end(process, &Condition::Unfit);
                }
                Err(StartError::Io(error)) => {
                    self.figures.recoveries_cut_short += 1;
                    self.disk.note(format!("-- did not start: {error}"));
                    self.closed = false;
                    if self.disk.has_ended() && self.dice.one_in(2) {
                        self.figures.power_losses += 1;
                        self.disk.crash();
                    } else {
                        self.figures.kills += 1;
                        self.disk.restart();
                    }
                }
                Err(StartError::Wrong(violation)) => return Err(violation),
            }
        }
        Ok(None)
    }

    /// Opens log and content store on a disk without faults and holds them against the model.
    async fn start_calm(&mut self) -> Result<Process, Violation> {
        self.disk.set_weather(self.dice.next(), Forecast::CALM);
        self.ledger.life += 1;
        let started = Process::start(&self.disk, &self.settings, &self.ticks);
        let (process, found) = started.map_err(|error| match error {
            StartError::Io(error) => format!("did not start on a disk without faults: {error}"),
            StartError::Wrong(violation) => violation,
        })?;
        self.figures.cuts += u64::from(found.log.cut.is_some());
        if self.closed && !(found.log.clean && found.content.clean) {
            process.stop();
            return Err(format!("was closed and does not know it: {found:?}"));
        }
        self.closed = false;
        match self.check(&process).await {
            Ok(()) => Ok(process),
            Err(violation) => {
                process.stop();
                Err(violation)
            }
        }
    }

    /// Sends a request and takes up its answer.
    pub(crate) async fn ask(&mut self, process: &Process, index: usize) -> Result<(), Violation> {
        self.ledger.note_sent(index);
        let asked = self.ledger.entries[index].asked.clone();
        let answered = crate::load::answer(process, &asked, Vec::new()).await;
        self.take_up(index, answered)
    }
}
