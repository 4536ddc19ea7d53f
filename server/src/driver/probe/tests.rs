use clap::ValueEnum;

use super::*;

#[test]
fn auto_takes_the_ring_where_it_is_allowed_and_epoll_where_not() {
    let allowed = decide(DriverChoice::Auto, || Ok(()), None);
    assert_eq!(allowed.map(|(driver, _)| driver), Ok(Driver::TokioUring));

    let (driver, reason) = decide(DriverChoice::Auto, || Err(ProbeError::Forbidden), None)
        .expect("auto always finds a driver");
    assert_eq!(driver, Driver::Epoll);
    assert!(reason.contains("seccomp"), "{reason}");
    assert!(!reason.contains('\n'));
}

#[test]
fn a_named_driver_that_cannot_run_is_an_error_and_not_another_driver() {
    for choice in [DriverChoice::Glommio, DriverChoice::TokioUring] {
        let error = decide(choice, || Err(ProbeError::Missing), None)
            .expect_err("there is no ring to run on");
        let text = error.to_string();
        assert!(text.contains("--driver epoll"), "{text}");
        assert!(matches!(error, ChooseError::NoRing { cause: ProbeError::Missing, .. }));
    }
}

#[test]
fn glommio_is_refused_below_the_locked_memory_it_checks_for() {
    let limit_bytes = GLOMMIO_MEMLOCK_BYTES_MIN - 1;
    let error = decide(DriverChoice::Glommio, || Ok(()), Some(limit_bytes))
        .expect_err("glommio would panic in our place");
    assert_eq!(
        error,
        ChooseError::MemlockTooLow {
            driver: Driver::Glommio,
            limit_bytes,
            needed_bytes: GLOMMIO_MEMLOCK_BYTES_MIN,
        }
    );
    for enough in [Some(GLOMMIO_MEMLOCK_BYTES_MIN), None] {
        let chosen = decide(DriverChoice::Glommio, || Ok(()), enough);
        assert_eq!(chosen.map(|(driver, _)| driver), Ok(Driver::Glommio));
    }
}

#[test]
fn epoll_asks_the_kernel_nothing() {
    let chosen = decide(DriverChoice::Epoll, || panic!("epoll needs no ring"), Some(0));
    assert_eq!(chosen.map(|(driver, _)| driver), Ok(Driver::Epoll));
}

#[test]
fn each_refusal_names_its_own_cause() {
    assert_eq!(refusal(libc::EPERM, Some(2)), ProbeError::Disabled { setting: 2 });
    assert_eq!(refusal(libc::EPERM, Some(0)), ProbeError::Forbidden);
    assert_eq!(refusal(libc::EPERM, None), ProbeError::Forbidden);
    assert_eq!(refusal(libc::ENOSYS, Some(0)), ProbeError::Missing);
    assert!(matches!(refusal(libc::ENOMEM, Some(0)), ProbeError::NoMemory { .. }));
    assert_eq!(refusal(libc::EMFILE, None), ProbeError::Failed { errno: libc::EMFILE });

    let no_memory = ProbeError::NoMemory { memlock_bytes: Some(65536) };
    assert!(no_memory.to_string().ends_with("65536 bytes"), "{no_memory}");
}

#[test]
fn every_choice_is_spelled_as_on_the_command_line() {
    let names: Vec<String> = DriverChoice::value_variants()
        .iter()
        .map(|choice| choice.to_possible_value().expect("none is hidden").get_name().to_owned())
        .collect();
    assert_eq!(names, ["auto", "tokio-uring", "glommio", "epoll"]);
    for driver in [Driver::TokioUring, Driver::Glommio, Driver::Epoll] {
        assert!(names.contains(&driver.to_string()));
    }
}

#[test]
fn the_file_limit_is_raised_to_the_hard_one_and_stays() {
    let raised = raise_file_limit().expect("the soft limit may go up to the hard one");
    let limit = sys::limit(sys::Resource::Files).expect("a process may read its limits");
    assert_eq!(limit.rlim_cur, limit.rlim_max);
    assert_eq!(raise_file_limit().expect("raising twice changes nothing"), raised);
}

#[test]
#[cfg(target_os = "linux")]
fn under_a_profile_that_forbids_the_ring_auto_runs_on_epoll() {
    // The filter binds the thread that installs it, so a thread of its own keeps it from the rest.
    let refused = std::thread::spawn(|| {
        forbid_io_uring_setup(libc::EPERM).then(|| (probe_io_uring(), choose(DriverChoice::Auto)))
    });
    let Some((probed, chosen)) = refused.join().expect("a refusal is no panic") else {
        return; // This kernel has no seccomp to forbid anything with.
    };
    // Where the machine's own switch is off as well, that is the cause to name.
    let expected = match disabled_setting() {
        Some(setting @ 1..) => ProbeError::Disabled { setting },
        _ => ProbeError::Forbidden,
    };
    assert_eq!(probed, Err(expected));
    assert_eq!(chosen.map(|(driver, _)| driver), Ok(Driver::Epoll));
}

/// Makes `io_uring_setup` answer `errno` on this thread. False if the kernel has no seccomp.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "installing a seccomp filter is two system calls")]
fn forbid_io_uring_setup(errno: i32) -> bool {
    let call = libc::SYS_io_uring_setup as u32;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut filter = [
        // Loads the number of the call, the first field of `struct seccomp_data`.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: call,
        },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the kernel copies `program` and the filter behind it during the call, and both
    // outlive it. The filter can refuse one system call and do nothing else.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}
