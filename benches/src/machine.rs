//! What the figures were measured on.

use std::process::Command;

/// Processor, number of cores, kernel and compiler, as far as the system tells.
pub fn description() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(": ")).map_or("?", |(_, value)| value).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let rustc = Command::new("rustc").arg("--version").output().map(|out| out.stdout).unwrap_or_default();
    let model = format!("family {} model {}", field("cpu family"), field("model\t"));
    let (cpu, kernel, rustc) = (field("model name"), kernel.trim().to_owned(), String::from_utf8_lossy(&rustc));
    format!("{cpu} ({model}), {cores} cores, Linux {kernel}, {}", rustc.trim())
}
