//! The priority of threads that work in the background.

#[cfg(feature = "server")]
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Nice value that background threads add to their own: they get about a tenth of a core that searches also want.
const NICE: i32 = 10;

/// Lowers the priority of this thread and of those that it starts, so that searches run first.
pub(crate) fn lower_priority() {
    // Without the permission to do so, they share the cores as equals.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Lets this thread run only while nothing else wants its core.
#[cfg(feature = "server")]
pub(crate) fn run_when_idle() {
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    // Where that is not possible, it is one that runs after others.
    if set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, idle).is_err() {
        lower_priority();
    }
}

/// The processor time that this thread has used.
#[cfg(feature = "server")]
pub(crate) fn thread_time() -> std::time::Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
