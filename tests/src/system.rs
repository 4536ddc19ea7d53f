//! What std does not say to the system: signals, a seccomp filter, mounts, and the end of a file system.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::hostile::sized;

/// Sends SIGTERM.
///
/// # Panics
///
/// When there is no such process.
#[allow(unsafe_code, reason = "std sends no signal but SIGKILL")]
pub fn terminate(pid: u32) {
    let pid = libc::pid_t::try_from(pid).expect("a process id");
    // SAFETY: the call takes two integers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, libc::SIGTERM) };
    assert_eq!(result, 0, "cannot signal process {pid}: {}", io::Error::last_os_error());
}

/// Lets the calling thread run where hardly anybody else wants to: a client that plays one on another machine, whose work
/// takes no processor from the server there.
///
/// # Panics
///
/// If the system refuses it, which it does to nobody.
#[allow(unsafe_code, reason = "std knows no priorities")]
pub fn play_another_machine() {
    // In short runs above the builds that `tests/run` has beside these tests.
    let nice: libc::c_int = sized(10, 19);
    // SAFETY: the call takes integers and touches no memory of ours; zero stands for the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    assert_eq!(result, 0, "cannot lower the priority: {}", io::Error::last_os_error());
}

/// Lets the process of `command` get EPERM from `io_uring_setup`, as the default seccomp profile of containers does.
#[allow(unsafe_code, reason = "a seccomp filter is set between fork and exec")]
pub fn forbid_io_uring(command: &mut Command) {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, of `seccomp_data.nr` at offset 0
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7FFF_0000;
    const ERRNO: u32 = 0x0005_0000;
    let eperm = ERRNO | u32::try_from(libc::EPERM).expect("small");
    let setup = u32::try_from(libc::SYS_io_uring_setup).expect("a small number");
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, setup),
        step(RETURN, 0, 0, eperm),
        step(RETURN, 0, 0, ALLOW),
    ];
    let install = move || {
        let len = 4;
        let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the kernel copies the program during the call, and `filter` lives in the closure.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: `install` allocates nothing, takes no lock, and makes two system calls.
    unsafe { command.pre_exec(install) };
}

/// Lets the process of `command` have so many descriptors, and never more.
#[allow(unsafe_code, reason = "a limit is set between fork and exec")]
pub fn limit_descriptors(command: &mut Command, count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    let set = move || {
        // SAFETY: the kernel copies the limit during the call, and it lives in the closure.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: `set` allocates nothing, takes no lock, and makes one system call.
    unsafe { command.pre_exec(set) };
}

/// True for the superuser.
#[must_use]
#[allow(unsafe_code, reason = "std does not know who we are")]
pub fn is_root() -> bool {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Unmounts a file system.
///
/// # Errors
///
/// What the system answers: `ResourceBusy` while a file in it is open.
#[allow(unsafe_code, reason = "std does not unmount")]
pub fn unmount(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` ends with a zero and outlives the call.
    let result = unsafe { libc::umount2(path.as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends an ext4 file system as a power cut does: nothing more reaches the device, not even the journal.
///
/// # Errors
///
/// What the system answers.
#[allow(unsafe_code, reason = "an ioctl")]
pub fn shut_down_ext4(mount: &Path) -> io::Result<()> {
    /// `_IOR('X', 125, __u32)`.
    const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587D;
    const EXT4_GOING_FLAGS_NOLOGFLUSH: u32 = 2;
    let directory = File::open(mount)?;
    let flags = EXT4_GOING_FLAGS_NOLOGFLUSH;
    // SAFETY: the kernel reads four bytes from `flags`, which outlives the call.
    let result = unsafe {
        libc::ioctl(directory.as_raw_fd(), EXT4_IOC_SHUTDOWN as libc::Ioctl, &raw const flags)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
