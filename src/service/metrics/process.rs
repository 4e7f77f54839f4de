//! The process and the program. The names of process metrics are those of every Prometheus client library.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::base::program::COMMIT;

/// Registers the version of the program.
pub(super) fn register_build(registry: &mut Registry) {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT.unwrap_or("unknown"))];
    registry.register(
        "build",
        "Version and commit of the program; the value is 1",
        Info::new(labels.to_vec()),
    );
}

/// Registers the metrics of the process.
pub(super) fn register_process(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

/// Reads the state of the process at every scrape. Reports what the system tells, and leaves out the rest.
#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut metric = |name: &str, help: &str, metric: &dyn EncodeMetric| {
            let encoder = encoder.encode_descriptor(name, help, None, metric.metric_type())?;
            metric.encode(encoder)
        };
        let Ok(process) = procfs::process::Process::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            let seconds = (stat.utime + stat.stime) as f64 / ticks;
            metric(
                "process_cpu_seconds",
                "Processor time of the process, in seconds",
                &ConstCounter::new(seconds),
            )?;
            let virtual_bytes = gauge(stat.vsize);
            metric("process_virtual_memory_bytes", "Address space of the process, in bytes", &virtual_bytes)?;
            let resident = gauge(stat.rss * procfs::page_size());
            metric(
                "process_resident_memory_bytes",
                "Memory of the process, with mapped files, in bytes",
                &resident,
            )?;
            metric("process_threads", "Threads of the process", &ConstGauge::new(stat.num_threads))?;
            if let Ok(boot) = procfs::boot_time_secs() {
                let start = boot as f64 + stat.starttime as f64 / ticks;
                metric(
                    "process_start_time_seconds",
                    "Unix time at which the process started",
                    &ConstGauge::new(start),
                )?;
            }
        }
        if let Ok(files) = process.fd_count() {
            metric("process_open_fds", "Open file descriptors", &gauge(files as u64))?;
        }
        if let Ok(limits) = process.limits()
            && let procfs::process::LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            metric("process_max_fds", "Limit of open file descriptors", &gauge(most))?;
        }
        Ok(())
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Memory of the process, with mapped files, in bytes; 0 if the system does not tell.
pub(crate) fn resident_memory() -> u64 {
    let stat = procfs::process::Process::myself().and_then(|process| process.stat());
    stat.map_or(0, |stat| stat.rss * procfs::page_size())
}
