//! Processor time of this process. Of a software adapter it is the work itself, and others on the machine disturb it
//! less than the time that passes.

/// Seconds that all threads of this process have run so far, where the system tells (Linux).
pub fn seconds() -> Option<f64> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end while the list is read.
        let Ok(text) = std::fs::read_to_string(task.ok()?.path().join("schedstat")) else {
            continue;
        };
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 * 1e-9)
}

/// What `work` gives, and the processor time that it took.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, Option<f64>) {
    let before = seconds();
    let result = work();
    let took = before.and_then(|before| Some(seconds()? - before));
    (result, took.filter(|took| *took > 0.0))
}
