//! Crashes and faults under the real log, content store and write path, by seed.
//!
//! A seed makes a disk, a load, and the moments at which the power goes, the process is killed or
//! an operation fails. After each of them log and content store are opened and held against a model
//! of what was acknowledged. `docs/crash-simulation.md` tells the rules.

mod check;
mod dice;
mod disk;
mod figures;
mod inode;
mod ledger;
mod load;
mod process;
mod request;
mod run;
mod seeds;
mod storages;
mod wave;
mod weather;

pub use disk::Pace;
pub use figures::Figures;
pub use run::Failure;
pub use seeds::run_all;
