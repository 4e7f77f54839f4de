//! Entries: appended, read, trimmed and removed.

use std::sync::{Arc, Mutex};
use std::thread;

use shortlist::base::id::VideoId;
use shortlist::live::{Entry, GroupCommit, Mutation, MutationLog, RedbLog};

use super::{delete, folder, sequences, upsert, version};

#[test]
fn keeps_what_was_appended_in_order() {
    let (folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.last_sequence(), log.trimmed_to()), (0, 0));
    assert_eq!(log.append(&[]).unwrap(), 0);
    assert_eq!(log.append(&[upsert(7), delete(8)]).unwrap(), 2);
    assert_eq!(log.append(&[upsert(9)]).unwrap(), 3);
    let expected: Vec<Entry> = (1..)
        .zip([upsert(7), delete(8), upsert(9)])
        .map(|(sequence, mutation)| Entry { sequence, mutation })
        .collect();
    assert_eq!(log.read(0, 10).unwrap(), expected);
    drop(log);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.last_sequence(), 3);
    assert_eq!(log.read(0, 10).unwrap(), expected);
    assert_eq!(log.read(1, 1).unwrap(), expected[1..2]);
    assert_eq!(log.read(0, 0).unwrap(), []);
    assert_eq!(log.read(3, 10).unwrap(), []);
    assert_eq!(log.read(u64::MAX, 10).unwrap(), []);
    assert_eq!(log.bytes().unwrap(), std::fs::metadata(&path).unwrap().len());
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["mutations.redb"]);
}

#[test]
fn trims_entries_and_keeps_numbers_and_takedowns() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    let takedown = |video| Mutation::Takedown(VideoId(video));
    let restore = |video| Mutation::Restore(VideoId(video));
    // An upsert does not restore a video, and a second takedown replaces the first.
    log.append(&[takedown(5), takedown(4), takedown(3), upsert(4), restore(3), takedown(5)]).unwrap();
    let taken_down = [(VideoId(4), 2), (VideoId(5), 6)];
    assert_eq!(log.takedowns().unwrap(), taken_down);

    log.trim(4).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (4, 6));
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [5, 6]);
    log.trim(2).unwrap();
    assert_eq!(log.trimmed_to(), 4);
    log.trim(u64::MAX).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (6, 6));
    drop(log);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.trimmed_to(), log.last_sequence()), (6, 6));
    assert_eq!(log.read(0, 10).unwrap(), []);
    assert_eq!(log.takedowns().unwrap(), taken_down);
    assert_eq!(log.append(&[restore(4)]).unwrap(), 7);
    assert_eq!(sequences(&log.read(6, 10).unwrap()), [7]);
    assert_eq!(log.takedowns().unwrap(), taken_down[1..]);
}

#[test]
fn removes_single_entries_and_keeps_numbers() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    let takedown = Mutation::Takedown(VideoId(9));
    log.append(&[upsert(1), upsert(2), upsert(1), takedown, upsert(2)]).unwrap();
    let full = log.size();
    assert_eq!(full.entries, 5);
    drop(log);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.size(), full);
    // The last entry stays, and so does the takedown without its entry.
    log.remove(&[1, 2, 4, 5, 77]).unwrap();
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [3, 5]);
    assert_eq!((log.size().entries, log.last_sequence(), log.trimmed_to()), (2, 5, 0));
    assert!(log.size().entry_bytes < full.entry_bytes && log.size().written_bytes == full.entry_bytes);
    assert_eq!(log.read(3, 1).unwrap()[0].mutation, upsert(2));
    assert_eq!(log.append(&[delete(7)]).unwrap(), 6);
    let size = log.size();
    drop(log);
    assert_eq!(version(&path), 3);

    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.size().entries, log.size().entry_bytes), (size.entries, size.entry_bytes));
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [3, 5, 6]);
    assert_eq!(log.takedowns().unwrap(), [(VideoId(9), 4)]);
    log.trim(5).unwrap();
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [6]);
}

#[test]
fn trims_all_but_some_entries_until_they_are_not_kept() {
    let (_folder, path) = folder();
    let log = RedbLog::open(&path).unwrap();
    log.append(&(1..=9).map(upsert).collect::<Vec<_>>()).unwrap();
    log.trim_except(6, &[2, 5, 8]).unwrap();
    assert_eq!((log.trimmed_to(), sequences(&log.read(0, 10).unwrap())), (6, vec![2, 5, 7, 8, 9]));
    drop(log);
    let log = RedbLog::open(&path).unwrap();
    assert_eq!((log.trimmed_to(), log.size().entries), (6, 5));
    log.trim_except(6, &[5]).unwrap();
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [5, 7, 8, 9]);
    // Everything but one entry in front of the trimmed part.
    log.trim_except(u64::MAX, &[5]).unwrap();
    assert_eq!(
        (log.trimmed_to(), log.last_sequence(), sequences(&log.read(0, 10).unwrap())),
        (9, 9, vec![5])
    );
    drop(log);
    let log = RedbLog::open(&path).unwrap();
    assert_eq!(log.append(&[delete(1)]).unwrap(), 10);
    assert_eq!(sequences(&log.read(0, 10).unwrap()), [5, 10]);
    log.trim(10).unwrap();
    assert_eq!(log.size().entries, 0);
    drop(log);
    assert_eq!(RedbLog::open(&path).unwrap().append(&[delete(1)]).unwrap(), 11);
}

#[test]
fn many_callers_have_one_order() {
    const CALLERS: u64 = 16;
    const WRITES: u64 = 40;
    let (_folder, path) = folder();
    let log = Arc::new(RedbLog::open(&path).unwrap());
    let applied = Arc::new(Mutex::new(Vec::<Entry>::new()));
    let to = Arc::clone(&applied);
    let group = GroupCommit::new(log.clone(), move |entries| to.lock().unwrap().extend_from_slice(entries));
    let caller = |caller: u64| {
        let (group, applied) = (&group, &applied);
        move || {
            let mut before = 0;
            for write in 0..WRITES {
                let size = 1 + (caller + write) % 3;
                let mutations: Vec<Mutation> =
                    (0..size).map(|at| delete(caller << 32 | write << 8 | at)).collect();
                let last = group.write(mutations.clone()).unwrap();
                assert!(last >= before + size, "{last} after {before}");
                before = last;
                // They are applied together, in order, with the returned sequences.
                let applied = applied.lock().unwrap();
                let mine = &applied[(last - size) as usize..last as usize];
                assert!((last - size + 1..=last).eq(mine.iter().map(|entry| entry.sequence)));
                assert!(mutations.iter().eq(mine.iter().map(|entry| &entry.mutation)));
            }
        }
    };
    thread::scope(|scope| (0..CALLERS).for_each(|number| drop(scope.spawn(caller(number)))));
    assert_eq!(group.write(Vec::new()).unwrap(), log.last_sequence());
    drop(group);
    assert_eq!(log.read(0, usize::MAX).unwrap(), *applied.lock().unwrap());
}
