//! How much memory this process may still take.
//!
//! What flows in: text files of the Linux kernel. What flows out: bytes, the least of what the machine has and what each
//! control group of the process allows. A container or a service unit often allows less than the machine has, and the
//! kernel ends a process that takes more.
//!
//! | file | what it says |
//! |---|---|
//! | `/proc/meminfo`     | `MemTotal` and `MemAvailable` of the machine, in kB |
//! | `/proc/self/cgroup` | the groups of this process: `0::/path` in version 2, `N:memory:/path` in version 1 |
//! | `memory.max`, `memory.high`, `memory.limit_in_bytes` | the limit of a group, or `max` |
//! | `memory.current`, `memory.usage_in_bytes` | what the processes of a group and their cached files take |
//! | `memory.stat`       | the cached files among that, which the kernel drops when it needs memory |
//!
//! The limits of all ancestors of a group hold, too. A file that is missing, unreadable or malformed sets no limit.

use std::path::{Component, Path};

/// Memory that a process shares with others: of a machine, or of a control group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvailableMemory {
    /// Bytes that all processes may take together.
    pub total: u64,
    /// Bytes of them that can still be taken without swapping.
    pub available: u64,
}

/// The files of one version of control groups.
struct GroupFiles {
    /// Where the groups are, below the root of the file system.
    mount: &'static str,
    /// Files with a limit, or with a word that means none. Above `memory.high`, processes are only slowed down, but
    /// what cannot be swapped out keeps them there.
    limits: &'static [&'static str],
    usage: &'static str,
    /// The entries of `memory.stat` for cached files, of the group and its descendants.
    cached: [&'static str; 2],
}

const VERSION_1: GroupFiles = GroupFiles {
    mount: "sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

const VERSION_2: GroupFiles = GroupFiles {
    mount: "sys/fs/cgroup",
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    cached: ["inactive_file", "active_file"],
};

impl AvailableMemory {
    /// Reads the memory of this process. Returns `None` if the operating system does not say it, as outside of Linux.
    pub fn of_this_process() -> Option<Self> {
        Self::below(Path::new("/"))
    }

    /// Reads the memory of this process from the files below `root`, in place of those of the system.
    fn below(root: &Path) -> Option<Self> {
        let machine = read(&root.join("proc/meminfo")).and_then(|text| of_machine(&text));
        let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
        let mut least = machine;
        for (files, path) in groups.lines().filter_map(group_of) {
            let mount = root.join(files.mount);
            for folder in below_mount(path).ancestors() {
                let group = of_group(files, |name| read(&mount.join(folder).join(name)));
                least = least.into_iter().chain(group).reduce(Self::least);
            }
        }
        least
    }

    /// Returns what a process may take that both restrict.
    fn least(self, other: Self) -> Self {
        Self { total: self.total.min(other.total), available: self.available.min(other.available) }
    }
}

fn read(path: &Path) -> Option<String> {
    Some(String::from_utf8_lossy(&std::fs::read(path).ok()?).into_owned())
}

/// Parses `/proc/meminfo`.
fn of_machine(meminfo: &str) -> Option<AvailableMemory> {
    let bytes = |name| number_of(meminfo, name)?.checked_mul(1024);
    Some(AvailableMemory { total: bytes("MemTotal:")?, available: bytes("MemAvailable:")? })
}

/// Parses a line of `/proc/self/cgroup`: the version and the path of a group whose memory is counted.
fn group_of(line: &str) -> Option<(&'static GroupFiles, &str)> {
    let mut fields = line.splitn(3, ':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    if number == "0" && controllers.is_empty() {
        Some((&VERSION_2, path))
    } else if controllers.split(',').any(|controller| controller == "memory") {
        Some((&VERSION_1, path))
    } else {
        None
    }
}

/// Returns the path of a group below the mount. A path that leads out of it is that of a group which this process
/// cannot see; only the limits at the mount itself are known then.
fn below_mount(path: &str) -> &Path {
    let path = Path::new(path.trim_start_matches('/'));
    let is_below = path.components().all(|component| matches!(component, Component::Normal(_)));
    if is_below { path } else { Path::new("") }
}

/// Parses the files of one group, which `text_of` returns by name. Returns `None` if it has no limit, or does not say
/// what is taken.
fn of_group(files: &GroupFiles, text_of: impl Fn(&str) -> Option<String>) -> Option<AvailableMemory> {
    let number = |name: &&str| text_of(name)?.trim().parse::<u64>().ok();
    let total = files.limits.iter().filter_map(number).min()?;
    let usage = number(&files.usage)?;
    let stat = text_of("memory.stat").unwrap_or_default();
    let cached = files.cached.iter().filter_map(|name| number_of(&stat, name)).fold(0, u64::saturating_add);
    Some(AvailableMemory { total, available: total.saturating_sub(usage.saturating_sub(cached)) })
}

/// Returns the number after `name` at the start of a line.
fn number_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == name).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    const MEMINFO: &str = "MemTotal:       16384 kB\nMemFree:          100 kB\nMemAvailable:    8192 kB\n";

    fn memory(total: u64, available: u64) -> Option<AvailableMemory> {
        Some(AvailableMemory { total, available })
    }

    /// A root of a file system with these files.
    fn root(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(files: &[(&str, &str)]) -> Option<AvailableMemory> {
        AvailableMemory::below(root(files).path())
    }

    #[test]
    fn the_memory_of_the_machine_is_read_in_bytes() {
        assert_eq!(found(&[("proc/meminfo", MEMINFO)]), memory(16 << 20, 8 << 20));
        assert_eq!(found(&[]), None);
        for text in
            ["", "MemTotal: 5 kB\n", "MemTotal: x kB\nMemAvailable: 5 kB\n", "MemTotal:\nMemAvailable:\n"]
        {
            assert_eq!(found(&[("proc/meminfo", text)]), None, "{text:?}");
        }
        let huge = format!("MemTotal: {} kB\nMemAvailable: 5 kB\n", u64::MAX);
        assert_eq!(found(&[("proc/meminfo", &huge)]), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_system_says_how_much_memory_there_is() {
        let AvailableMemory { total, available } = AvailableMemory::of_this_process().unwrap();
        assert!(0 < available && available <= total, "{available} of {total}");
    }

    /// Each of the files that is missing or malformed.
    #[test]
    fn a_group_limits_what_the_machine_has_and_cached_files_are_available() {
        let files = [
            ("proc/meminfo", MEMINFO),
            ("proc/self/cgroup", "0::/unit\n"),
            ("sys/fs/cgroup/unit/memory.max", "1000000\n"),
            ("sys/fs/cgroup/unit/memory.current", "900000\n"),
            ("sys/fs/cgroup/unit/memory.stat", "anon 5\ninactive_file 300000\nactive_file 200000\nfile 7\n"),
        ];
        assert_eq!(found(&files), memory(1_000_000, 600_000));
        let machine = memory(16 << 20, 8 << 20);
        let without = [memory(1_000_000, 600_000), machine, machine, machine, memory(1_000_000, 100_000)];
        for (at, expected) in without.into_iter().enumerate() {
            for text in [None, Some("\n"), Some("0:/unit\n"), Some("-5\n")] {
                let mut files = files.to_vec();
                let (name, _) = files.remove(at);
                files.extend(text.map(|text| (name, text)));
                assert_eq!(found(&files), expected, "{name} is {text:?}");
            }
        }
        for (limit, expected) in [("max\n", machine), ("0\n", memory(0, 0)), ("400000", memory(400_000, 0))] {
            let mut files = files;
            files[2].1 = limit;
            assert_eq!(found(&files), expected, "{limit:?}");
        }
        let high = ("sys/fs/cgroup/unit/memory.high", "700000\n");
        assert_eq!(found(&[&files[..], &[high]].concat()), memory(700_000, 300_000));
    }

    #[test]
    fn of_nested_groups_the_least_counts_in_both_versions() {
        for (line, mount, limit, usage, stat) in [
            ("0::/a/b/c", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file 10\n"),
            (
                "7:cpu,memory:/a/b/c",
                "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "inactive_file 999\ntotal_inactive_file 7\ntotal_active_file 3\n",
            ),
        ] {
            let of = |folder: &str, name: &str| format!("{mount}/{folder}{name}");
            // The group has the least in total, its grandparent the least that is available; its parent has no limit.
            let numbers = [
                ("a/b/c/", "1000", "110"),
                ("a/b/", "max", "5000"),
                ("a/", "2000", "1910"),
                ("", "9000", "0"),
            ];
            let mut files = vec![
                ("proc/meminfo".to_owned(), MEMINFO.to_owned()),
                ("proc/self/cgroup".to_owned(), format!("3:pids:/x\n1:name=systemd:/y\n{line}\n")),
            ];
            for (folder, total, taken) in numbers {
                files.push((of(folder, limit), format!("{total}\n")));
                files.push((of(folder, usage), format!("{taken}\n")));
                files.push((of(folder, "memory.stat"), stat.to_owned()));
            }
            let files: Vec<(&str, &str)> =
                files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            assert_eq!(found(&files), memory(1000, 100), "{line}");
        }
    }

    #[test]
    fn a_group_out_of_sight_has_the_limits_of_the_mount() {
        for path in ["/../../other", "/a/../b", "/", "", "//", "/gone (deleted)"] {
            let files = [
                ("proc/self/cgroup", format!("0::{path}\n")),
                ("sys/fs/cgroup/memory.max", "500".to_owned()),
                ("sys/fs/cgroup/memory.current", "100".to_owned()),
                // Would be found by a path that leads out of the mount.
                ("sys/other/memory.max", "5".to_owned()),
                ("sys/other/memory.current", "5".to_owned()),
            ];
            let files = files.each_ref().map(|(path, text)| (*path, text.as_str()));
            assert_eq!(found(&files), memory(500, 400), "{path:?}");
        }
    }

    /// Text like that of the files, and any other.
    fn text() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "(MemTotal:|MemAvailable:|inactive_file|active_file|total_inactive_file)? {0,2}[0-9]{0,22} {0,2}(kB)?",
            "[0-9]{0,2}:(memory|cpu,memory|)?:/?[a-b./]{0,6}",
            "max|-?[0-9]{1,22}",
            any::<String>(),
        ];
        prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
    }

    /// The limit, the usage and the cached files of a group.
    fn level() -> impl Strategy<Value = (Option<u64>, u64, u64)> {
        (prop::option::of(0..1_000_000_u64), 0..1_000_000_u64, 0..1_000_000_u64)
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_a_panic(texts in prop::collection::vec(text(), 4), number in any::<u64>()) {
            let _ = of_machine(&texts[0]);
            for (files, path) in texts[1].lines().filter_map(group_of) {
                prop_assert!(below_mount(path).components().all(|part| matches!(part, Component::Normal(_))));
                let found = of_group(files, |name| match name {
                    "memory.stat" => Some(texts[2].clone()),
                    "memory.max" | "memory.limit_in_bytes" => Some(number.to_string()),
                    _ => Some(texts[3].clone()),
                });
                prop_assert!(found.is_none_or(|found| found.available <= found.total && found.total <= number));
            }
        }

        /// The answer is the least of every group with a limit, and of the machine.
        #[test]
        fn nested_limits_are_the_least_of_all(
            levels in prop::collection::vec(level(), 1..5),
        ) {
            let path = |depth: usize| (1..=depth).map(|level| format!("level-{level}/")).collect::<String>();
            let mut files = vec![
                ("proc/meminfo".to_owned(), "MemTotal: 500 kB\nMemAvailable: 400 kB\n".to_owned()),
                ("proc/self/cgroup".to_owned(), format!("0::/{}\n", path(levels.len() - 1).trim_end_matches('/'))),
            ];
            let (mut total, mut available) = (500 << 10, 400 << 10);
            for (depth, (limit, usage, cached)) in levels.iter().enumerate() {
                let folder = format!("sys/fs/cgroup/{}", path(depth));
                let limit_text = limit.map_or("max".to_owned(), |limit| limit.to_string());
                files.push((format!("{folder}memory.max"), limit_text));
                files.push((format!("{folder}memory.current"), usage.to_string()));
                files.push((format!("{folder}memory.stat"), format!("active_file {cached}\n")));
                if let Some(limit) = limit {
                    total = total.min(*limit);
                    available = available.min(limit.saturating_sub(usage.saturating_sub(*cached)));
                }
            }
            let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
            prop_assert_eq!(found(&files), memory(total, available));
        }
    }
}
