//! Two servers of one index: one of them writes, before and after the folder is replaced.

use shortlist::base::id::VideoId;
use shortlist::engine::{EngineError, Lookup, Readiness, Refresh, ReturnAttributes, WriteMode};
use shortlist::live::Mutation;

use super::replaced::{Change, Folder, answers, assert_refused, has, open, write};
use crate::harness::video_id;

#[test]
fn of_two_servers_one_writes_before_and_after_the_folder_is_replaced() {
    let mut folder = Folder::new();
    let first = open(&folder.link()).unwrap();
    first.refresh();
    write(&first, 1).unwrap();
    folder.change(Change::Anew, || ());
    let second = open(&folder.link()).unwrap();
    second.refresh();
    // The first has not looked yet.
    write(&second, 2).unwrap();
    assert_refused(&first, "not its folder");
    assert!(matches!(&first.refresh()[..], [Refresh::Withdrawn { .. }]));
    assert_refused(&first, "the log of another server");
    assert!(!answers(&first), "it does not know what is taken down");
    let problem = first.activate("", 1).unwrap_err();
    assert!(matches!(problem, EngineError::ReadOnly { .. } | EngineError::OutOfService { .. }), "{problem}");
    write(&second, 3).unwrap();
    drop(second);
    let news = first.refresh();
    assert!(matches!(&news[..], [Refresh::Opened { .. }, Refresh::Checked { .. }]), "{news:?}");
    assert!(has(&first, 2) && has(&first, 3) && !has(&first, 1));
    assert_eq!(first.readiness("").unwrap(), Readiness::Ready);
    write(&first, 4).unwrap();
    assert!(open(&folder.link()).unwrap_err().to_string().contains("in use"));
}

/// Two servers start before anything is written, and the one that writes ends.
#[test]
fn a_server_that_stepped_back_takes_over_when_the_log_is_free() {
    let folder = Folder::new();
    let (first, second) = (open(&folder.link()).unwrap(), open(&folder.link()).unwrap());
    [&first, &second].iter().for_each(|engine| drop(engine.refresh()));
    let takedown = Mutation::Takedown(VideoId(video_id(3)));
    first.write("", vec![takedown], WriteMode::AllOrNothing).unwrap();
    assert_refused(&second, "before it has looked");
    assert!(matches!(&second.refresh()[..], [Refresh::Withdrawn { .. }]));
    let status = second.status("").unwrap();
    assert_eq!((status.serving, status.live.writable), (false, false));
    assert!(second.activate("", 1).is_err() && second.activate_forced("", 1).is_err());
    drop(first);
    let news = second.refresh();
    assert!(matches!(&news[..], [Refresh::Opened { .. }, Refresh::Checked { .. }]), "{news:?}");
    let found = second.get("", &[VideoId(video_id(3))], &ReturnAttributes::None, false).unwrap();
    assert!(matches!(found[0], Lookup::TakenDown(_)));
    assert_eq!(write(&second, 1).unwrap(), 2);
}

/// The first of two servers writes and ends before the second has looked.
#[test]
fn a_log_that_another_server_left_is_read_before_it_is_written() {
    let folder = Folder::new();
    let (first, second) = (open(&folder.link()).unwrap(), open(&folder.link()).unwrap());
    [&first, &second].iter().for_each(|engine| drop(engine.refresh()));
    write(&first, 1).unwrap();
    drop(first);
    assert_refused(&second, "entries that it has not read");
    second.refresh();
    assert!(has(&second, 1));
    assert_eq!(write(&second, 2).unwrap(), 2);
}
