//! What the kernel says of this process (`/proc/self`), under the names that Prometheus' clients use.
//! What cannot be read is left out.

use super::family::{Families, Family};
use std::fs;

/// Ticks a second of the times in `/proc` (`USER_HZ`, 100 on every Linux that Rust runs on).
const TICKS: f64 = 100.0;

/// The value of `Name:   123 kB` in `/proc/self/status`, in bytes.
fn kilobytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kb| kb * 1024.0)
}

/// CPU seconds and start (seconds after boot) from `/proc/self/stat`; the command's name, which
/// may hold blanks and brackets, ends at the last `)`.
fn times(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    // Fields 14, 15 (user and system time) and 22 (start) of proc_pid_stat(5); `fields` starts at 3.
    Some(((number(11)? + number(12)?) / TICKS, number(19)? / TICKS))
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// Adds the `process_*` families.
pub(super) fn families(families: &mut Families) {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        if let Some(bytes) = kilobytes(&status, "VmRSS") {
            let help = "Resident memory size in bytes.";
            families.single(Family::gauge("process_resident_memory_bytes", help), bytes);
        }
        if let Some(bytes) = kilobytes(&status, "VmSize") {
            let help = "Virtual memory size in bytes.";
            families.single(Family::gauge("process_virtual_memory_bytes", help), bytes);
        }
    }
    if let Some((cpu, start)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(times) {
        let help = "Total user and system CPU time spent in seconds.";
        families.single(Family::counter("process_cpu_seconds_total", help), cpu);
        if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
            let help = "Start time of the process since unix epoch in seconds.";
            families.single(Family::gauge("process_start_time_seconds", help), boot + start);
        }
    }
    if let Ok(fds) = fs::read_dir("/proc/self/fd") {
        let help = "Number of open file descriptors.";
        // One of them is the directory being read.
        families.single(Family::gauge("process_open_fds", help), fds.count().saturating_sub(1) as f64);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        let help = "Maximum number of open file descriptors.";
        families.single(Family::gauge("process_max_fds", help), limit as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat =
            "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 12345 1000 200 18446744073709551615";
        assert_eq!(times(stat), Some((3.0, 123.45)));
        assert_eq!(times("7 (x"), None);
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t    12 kB\n", "VmRSS"), Some(12288.0));
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1.7e9));
    }
}
