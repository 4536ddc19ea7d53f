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

#[test]
fn a_first_start_whose_process_dies_anywhere_is_whole_or_made_again() {
    for seed in 0..20 {
        let mut commands = 0;
        loop {
            let mut server =
                Server::prepare(VirtualDisk::new(&[seed; 32]), 2, 1, false, LogSizes::default());
            let has_ended = server.run_commands(commands);
            let server = Server::start(server.crash(), 2, 2);
            let apps: Vec<_> = server.shards[0].catalog().apps().collect();
            assert_eq!(apps.len(), 1, "seed {seed}, after {commands} commands");
            assert_eq!(apps[0].1.keys().count(), 1, "seed {seed}, after {commands} commands");
            if has_ended {
                break;
            }
            commands += 1;
        }
        assert!(commands > 2, "it takes a write and a sync at the least");
    }
}
