//! The share of the processors that a thread takes where others want them too.
//!
//! Invariant: a thread never gets more by giving way. What somebody waits for who has no time, or
//! who gives up after a while, does not give way: it would wait for as long as others are busy. What
//! is waited for only where there is too much of it, tables of rows, gives way a little.

/// How much less than others a thread takes, by Linux's weights of niceness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A tenth of what others get: niceness 10.
    Little,
    /// A seventieth, next to nothing: niceness 19.
    Least,
}

impl Share {
    #[cfg(target_os = "linux")]
    fn niceness(self) -> i32 {
        match self {
            Self::Little => 10,
            Self::Least => 19,
        }
    }
}

/// Has the calling thread, and those that it starts from now on, give way to all others of the
/// system that are as nice as the process. There is no way back. Where the system knows no niceness
/// of a thread, or refuses, it takes its equal part.
pub fn give_way(share: Share) {
    // Linux takes this for the thread alone, whatever the name of the call; others for the process.
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let wanted = share.niceness();
        let given =
            getpriority_process(None).and_then(|now| setpriority_process(None, wanted.max(now)));
        if let Err(error) = given {
            tracing::debug!(%error, ?share, "a thread does not give way");
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = share;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// The niceness of the calling thread.
    fn niceness() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, behind_name) = stat.rsplit_once(')').unwrap();
        // Field 19 of proc_pid_stat(5); the name is the second.
        let field = behind_name.split_whitespace().nth(16);
        field.unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_that_gives_way_does_so_alone_with_those_that_it_starts() {
        let before = niceness();
        for share in [Share::Little, Share::Least] {
            let given = std::thread::spawn(move || {
                give_way(share);
                (niceness(), std::thread::spawn(niceness).join().unwrap())
            });
            let expected = before.max(share.niceness());
            assert_eq!(given.join().unwrap(), (expected, expected));
        }
        assert_eq!(niceness(), before);
    }
}
