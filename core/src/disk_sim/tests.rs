use super::*;

const NAME: &str = "d/f";

fn run(disk: &mut VirtualDisk, command: DiskCommand) -> Result<DiskReply, DiskError> {
    disk.submit(DiskOp(0), command);
    disk.complete(DiskOp(0)).expect("it was just submitted").result
}

fn write(byte: u8, sectors: usize) -> DiskCommand {
    let data = Bytes::from(vec![byte; sectors * SECTOR_BYTES]);
    DiskCommand::Write { file: NAME.into(), offset_bytes: 0, data }
}

fn disk_with_file(seed: u8) -> VirtualDisk {
    let mut disk = disk_with_dir(seed);
    run(&mut disk, DiskCommand::SyncDir { dir: "".into() }).expect("no fault");
    run(&mut disk, DiskCommand::Create { file: NAME.into(), len_bytes: 4_096, keep_free_bytes: 0 })
        .expect("space");
    run(&mut disk, DiskCommand::Sync { file: NAME.into() }).expect("no fault");
    run(&mut disk, DiskCommand::SyncDir { dir: "d".into() }).expect("no fault");
    disk
}

/// A disk on which `d` was made, and is not durable.
fn disk_with_dir(seed: u8) -> VirtualDisk {
    let mut disk = VirtualDisk::new(&[seed; 32]);
    let listed = run(&mut disk, DiskCommand::List { dir: "d".into() });
    assert_eq!(listed, Ok(DiskReply::Listed(Vec::new())));
    disk
}

#[test]
fn synced_writes_survive_and_others_survive_sector_by_sector() {
    let mut mixed = 0;
    for seed in 0..50 {
        let mut disk = disk_with_file(seed);
        run(&mut disk, write(1, 8)).expect("no fault");
        run(&mut disk, DiskCommand::Sync { file: NAME.into() }).expect("no fault");
        run(&mut disk, write(2, 8)).expect("no fault");
        disk.crash();
        let content = disk.content(NAME).expect("its name was synced");
        assert!(content.iter().all(|&byte| byte == 1 || byte == 2));
        mixed += usize::from(content.contains(&1) && content.contains(&2));
    }
    assert!(mixed > 10, "{mixed} of 50 crashes tore the write");
}

#[test]
fn a_sync_does_not_cover_a_write_that_completes_after_it_was_issued() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut disk = disk_with_file(seed);
        disk.submit(DiskOp(1), write(1, 1));
        disk.submit(DiskOp(2), DiskCommand::Sync { file: NAME.into() });
        disk.complete(DiskOp(1)).expect("pending").result.expect("no fault");
        disk.complete(DiskOp(2)).expect("pending").result.expect("no fault");
        disk.crash();
        lost += usize::from(disk.content(NAME).expect("its name was synced")[0] == 0);
    }
    assert!(lost > 10, "{lost} of 50");
}

#[test]
fn a_name_is_durable_only_after_its_directory_is_synced() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut disk = disk_with_dir(seed);
        run(&mut disk, DiskCommand::SyncDir { dir: "".into() }).expect("no fault");
        run(
            &mut disk,
            DiskCommand::Create { file: NAME.into(), len_bytes: 512, keep_free_bytes: 0 },
        )
        .expect("space");
        run(&mut disk, DiskCommand::Sync { file: NAME.into() }).expect("no fault");
        disk.crash();
        lost += usize::from(disk.content(NAME).is_none());
    }
    assert!(lost > 10, "{lost} of 50");
}

#[test]
fn a_made_directory_takes_what_lies_in_it_along_until_its_parent_is_synced() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut disk = disk_with_dir(seed);
        run(
            &mut disk,
            DiskCommand::Create { file: NAME.into(), len_bytes: 512, keep_free_bytes: 0 },
        )
        .expect("space");
        run(&mut disk, DiskCommand::Sync { file: NAME.into() }).expect("no fault");
        run(&mut disk, DiskCommand::SyncDir { dir: "d".into() }).expect("no fault");
        disk.crash();
        lost += usize::from(disk.content(NAME).is_none());
        let is_there = run(&mut disk, DiskCommand::SyncDir { dir: "d".into() }).is_ok();
        assert_eq!(is_there, disk.content(NAME).is_some());
    }
    assert!(lost > 10, "{lost} of 50");
}

#[test]
fn nothing_is_made_in_a_directory_that_is_not_there() {
    let mut disk = VirtualDisk::new(&[0; 32]);
    let create = DiskCommand::Create { file: NAME.into(), len_bytes: 512, keep_free_bytes: 0 };
    assert_eq!(run(&mut disk, create), Err(DiskError::NotFound));
}

#[test]
fn what_a_failed_sync_left_is_not_saved_by_the_next_one() {
    let mut lost = 0;
    for seed in 0..50 {
        let mut disk = disk_with_file(seed);
        run(&mut disk, write(1, 1)).expect("no fault");
        disk.fail_next(CommandKind::Sync, DiskError::Io("injected".into()));
        run(&mut disk, DiskCommand::Sync { file: NAME.into() }).expect_err("it was told to fail");
        run(&mut disk, DiskCommand::Sync { file: NAME.into() }).expect("no fault");
        disk.crash();
        lost += usize::from(disk.content(NAME).expect("its name was synced")[0] == 0);
    }
    assert!(lost > 10, "{lost} of 50");
}

#[test]
fn a_full_disk_refuses_to_create_and_changes_nothing() {
    let mut disk = disk_with_file(0);
    disk.set_capacity(5_000);
    let create = DiskCommand::Create { file: "d/g".into(), len_bytes: 1_024, keep_free_bytes: 0 };
    assert_eq!(run(&mut disk, create), Err(DiskError::Full));
    assert_eq!(disk.files().collect::<Vec<_>>(), [(NAME, 4_096)]);
}
