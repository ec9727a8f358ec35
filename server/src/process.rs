//! What the process uses, as Linux tells it. Elsewhere nobody does.

use std::fs;

/// Linux counts processor time in hundredths of a second for every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// What all threads of the process have used, those that have ended among them.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    /// Processor time, of user and kernel together.
    pub cpu_seconds: f64,
    /// Threads now.
    pub threads: f64,
}

/// Memory of the process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Resident now.
    pub resident: f64,
    /// The most that was resident since the start, or since [`forget_peak`].
    pub peak: f64,
    /// Address space.
    pub virtual_size: f64,
}

/// What the process has used.
pub fn usage() -> Option<Usage> {
    usage_of(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// What memory it holds.
pub fn memory() -> Option<Memory> {
    memory_of(&fs::read_to_string("/proc/self/status").ok()?)
}

/// Lets [`Memory::peak`] begin anew. Where that can't be, it stays the peak since the start.
pub fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// How many files are open.
pub fn open_files() -> Option<usize> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count())
}

/// The numbers behind the command's name, which may hold spaces and parentheses itself.
fn usage_of(stat: &str) -> Option<Usage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // Counted from the state, which is field 3: utime is 14, stime 15, num_threads 20.
    Some(Usage { cpu_seconds: (number(11)? + number(12)?) / TICKS_PER_SECOND, threads: number(17)? })
}

fn memory_of(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
    };
    Some(Memory { resident: bytes("VmRSS:")?, peak: bytes("VmHWM:")?, virtual_size: bytes("VmSize:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 100 1000 20";
        let usage = usage_of(stat).unwrap();
        assert_eq!((usage.cpu_seconds, usage.threads), (3.0, 7.0));
        let status = "Name: x\nVmSize:\t  40 kB\nVmHWM:\t 20 kB\nVmRSS:\t  12 kB\n";
        let memory = Memory { resident: 12_288.0, peak: 20_480.0, virtual_size: 40_960.0 };
        assert_eq!(memory_of(status), Some(memory));
        assert_eq!(memory_of("Name: x\n"), None);
    }
}
