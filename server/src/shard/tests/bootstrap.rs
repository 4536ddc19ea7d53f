//! The first start is the one that finds a log in which nothing was ever written.

use super::*;

#[test]
fn a_server_whose_apps_were_all_deleted_makes_none_by_itself() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 2, 1);
    let first = server.first.take().expect("the first start");
    let admin = server.connect(0, Door::Admin);
    let path = format!("/admin/apps/{}", first.app);
    server.send(admin, administer("DELETE", &path, "").as_bytes());
    server.run();
    assert!(server.receive(admin).starts_with("HTTP/1.1 200 "));
    // The next start has the deletion in its log, and makes a checkpoint; the one after it has no more than that.
    let sizes = LogSizes { checkpoint_after: Some(1), ..LogSizes::default() };
    let mut server = Server::start_sized(server.crash(), 2, 2, false, sizes);
    assert!(server.first.is_none(), "the log tells");
    server = Server::start(server.crash(), 2, 3);
    assert_eq!(server.shards[0].catalog().generation(), 0, "the checkpoint holds no app");
    assert!(server.first.is_none(), "the checkpoint tells");
    assert_eq!(server.shards[0].catalog().apps().count(), 0);
    assert_eq!(server.shared.phase(), crate::shared::Phase::Ready);
}

#[test]
fn a_first_start_that_ended_before_it_wrote_anything_is_made_by_the_next() {
    let mut disk = VirtualDisk::new(&[1; 32]);
    for boot in 1..4 {
        drop(open(&mut disk, boot, LogSizes::default()));
        disk.crash();
    }
    let mut server = Server::start(disk, 2, 4);
    let first = server.first.take().expect("nothing but boots is in the log");
    let client = server.connect(0, Door::Data);
    assert!(server.execute(client, &first, INSERT).starts_with("HTTP/1.1 200 "));
}

/// A start on a directory that keeps this.
fn prepare(disk: VirtualDisk, boot: u8, kept: Option<FirstStart>) -> Server {
    Server::prepare(disk, kept, 2, boot, false, LogSizes::default())
}

/// The process dies, or the power fails: passes on the disk, what is kept, and what was told.
fn die(
    mut server: Server,
    is_power: bool,
) -> (VirtualDisk, Option<FirstStart>, Option<FirstStart>) {
    match is_power {
        true => server.disk.crash(),
        false => server.disk.kill(),
    }
    (server.disk, server.kept, server.first.map(|first| *first))
}

#[test]
fn of_a_first_start_that_dies_anywhere_somebody_is_told_what_opens_the_app() {
    for seed in 0..16 {
        let mut commands = 0;
        loop {
            let at = format!("seed {seed}, after {commands} commands");
            let mut server = prepare(VirtualDisk::new(&[seed; 32]), 1, None);
            let has_ended = server.run_commands(commands);
            let (disk, kept, mut told) = die(server, seed % 2 == 0);
            // The next start dies as well, perhaps before it has looked at anything.
            let mut server = prepare(disk, 2, kept);
            server.run_commands(usize::from(seed / 2));
            assert!(told.is_none() || server.first.is_none(), "told twice: {at}");
            let (disk, kept, told_later) = die(server, seed % 3 == 0);
            told = told.or(told_later);
            let mut server = prepare(disk, 3, kept);
            server.run();
            assert!(told.is_none() || server.first.is_none(), "told twice: {at}");
            let first = told.or(server.first.take().map(|first| *first)).expect(&at);
            let client = server.connect(0, Door::Data);
            let answer = server.execute(client, &first, INSERT);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{at}: {answer}");
            let apps: Vec<_> = server.shards[0].catalog().apps().collect();
            assert_eq!(apps.len(), 1, "{at}");
            assert_eq!(apps[0].1.keys().count(), 1, "{at}");
            if has_ended {
                break;
            }
            commands += 1;
        }
        assert!(commands > 2, "it takes a write and a sync at the least");
    }
}

#[test]
fn what_is_kept_and_opens_nothing_is_not_told() {
    let mut server = Server::start(VirtualDisk::new(&[1; 32]), 2, 1);
    let first = server.first.take().map(|first| *first);
    // Kept by a start whose record is not in the log.
    let mut server = prepare(server.crash(), 2, Some(FirstStart::new(random)));
    server.run();
    assert!(server.first.is_none());
    // Kept by a start that died when the log had it.
    let mut server = prepare(server.crash(), 3, first.clone());
    server.run();
    assert!(server.first.is_some());
    let admin = server.connect(0, Door::Admin);
    let app = first.as_ref().expect("the first start").app;
    let path = format!("/admin/apps/{app}/keys/default");
    server.send(admin, administer("DELETE", &path, "").as_bytes());
    server.run();
    assert!(server.receive(admin).starts_with("HTTP/1.1 200 "));
    let mut server = prepare(server.crash(), 4, first);
    server.run();
    assert!(server.first.is_none(), "an administrator has revoked it");
}

#[test]
fn a_first_start_whose_log_fails_ends_and_the_next_has_what_opens_the_app() {
    for seed in 0..8 {
        let mut server = prepare(VirtualDisk::new(&[seed; 32]), 1, None);
        server.disk.fail_next(CommandKind::Sync, DiskError::Io("gone".to_owned()));
        server.run();
        let cause = server.fatal.take().expect("nobody can know whether the app is made");
        assert!(cause.contains("cannot make the first app"), "{cause}");
        let (disk, kept, told) = die(server, seed % 2 == 0);
        assert!(told.is_none());
        let mut server = prepare(disk, 2, kept);
        server.run();
        let first = server.first.take().expect("made anew, or told late");
        let client = server.connect(0, Door::Data);
        let answer = server.execute(client, &first, INSERT);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
