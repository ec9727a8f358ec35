//! What the machine has.

use std::fs;

/// Taken where the machine does not say how much it has.
const UNKNOWN_MEMORY: usize = 4 << 30;

/// The memory that this process may use: the machine's, or its container's if that is less.
pub(crate) fn memory_bytes() -> usize {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let containers = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // A container without a limit says "max", or a number beyond any machine.
    let container = containers.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min();
    machine.into_iter().chain(container).min().unwrap_or(UNKNOWN_MEMORY)
}

fn total(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_file_is_read() {
        assert_eq!(total("MemFree: 1 kB\nMemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(total("MemTotal: much\n"), None);
        assert!(memory_bytes() > 64 << 20);
    }
}
