//! What the process uses, as Linux tells it. Elsewhere these metrics are not there.

use std::fs;

use metrics::{counter, gauge};

/// Linux counts processor time in hundredths of a second for every program.
const TICKS_PER_SECOND: f64 = 100.0;

/// Sets the process's metrics, under the names that Prometheus's own clients use.
pub(super) fn record() {
    if let Some(Usage { cpu_seconds, threads }) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(usage)
    {
        gauge!("process_cpu_seconds_total").set(cpu_seconds);
        gauge!("process_threads").set(threads);
    }
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        for (line, name) in [
            ("VmRSS:", "process_resident_memory_bytes"),
            ("VmHWM:", "process_resident_memory_max_bytes"),
            ("VmSize:", "process_virtual_memory_bytes"),
        ] {
            if let Some(kilobytes) = kilobytes(&status, line) {
                gauge!(name).set(kilobytes * 1024.0);
            }
        }
    }
    if let Ok(files) = fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(files.count() as f64);
    }
    counter!("rondel_metrics_requests_total").increment(1);
}

struct Usage {
    cpu_seconds: f64,
    threads: f64,
}

/// The numbers behind the command's name, which may hold spaces and parentheses itself.
fn usage(stat: &str) -> Option<Usage> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<f64>().ok();
    // Counted from the state, which is field 3: utime is 14, stime 15, num_threads 20.
    Some(Usage { cpu_seconds: (number(11)? + number(12)?) / TICKS_PER_SECOND, threads: number(17)? })
}

fn kilobytes(status: &str, name: &str) -> Option<f64> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 7 0 100 1000 20";
        let usage = usage(stat).unwrap();
        assert_eq!((usage.cpu_seconds, usage.threads), (3.0, 7.0));
        assert_eq!(kilobytes("Name: x\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
        assert_eq!(kilobytes("Name: x\n", "VmRSS:"), None);
    }
}
