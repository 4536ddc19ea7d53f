//! Chooses a driver before one is started, and looks at the limits that decide how far it carries.
//!
//! Both io_uring runtimes give up at start when the kernel refuses a ring, and a container's usual
//! seccomp profile does refuse it. So a ring is set up once, closed again, and the answer turned
//! into a choice and one line that says why. The server's `main` calls [`choose`] and logs that
//! line; the drivers are not known here.

use std::fmt;
use std::io;

/// The locked memory below which glommio refuses to start, in bytes.
const GLOMMIO_MEMLOCK_BYTES_MIN: u64 = 512 * 1024;

/// What `--driver` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DriverChoice {
    /// tokio-uring where the kernel allows io_uring, else epoll.
    #[default]
    Auto,
    /// io_uring through tokio-uring.
    TokioUring,
    /// io_uring through glommio.
    Glommio,
    /// epoll through plain tokio: works everywhere.
    Epoll,
}

/// The driver that runs the shards of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring through tokio-uring.
    TokioUring,
    /// io_uring through glommio.
    Glommio,
    /// epoll through plain tokio.
    Epoll,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::TokioUring => "tokio-uring",
            Driver::Glommio => "glommio",
            Driver::Epoll => "epoll",
        })
    }
}

/// Why the kernel gives this process no io_uring.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The machine's administrator switched io_uring off for this process, or for all.
    #[error("kernel.io_uring_disabled is {setting}")]
    Disabled {
        /// The setting: 1 allows only `kernel.io_uring_group` and CAP_SYS_ADMIN, 2 nobody.
        setting: u32,
    },
    /// The call is forbidden, and not by the kernel's own switch: a seccomp profile, as containers
    /// have by default, or another security module.
    #[error("io_uring_setup is forbidden (EPERM), as by a container's default seccomp profile")]
    Forbidden,
    /// The kernel is older than io_uring, or was built without it, or hides it.
    #[error("this kernel has no io_uring (ENOSYS)")]
    Missing,
    /// The ring does not fit under the limit for locked memory, which counts all rings of a user.
    #[error("no memory for a ring (ENOMEM): the limit for locked memory is {}", Limit(*memlock_bytes))]
    NoMemory {
        /// The soft RLIMIT_MEMLOCK in bytes, if there is one.
        memlock_bytes: Option<u64>,
    },
    /// Any other refusal.
    #[error("io_uring_setup failed: {}", io::Error::from_raw_os_error(*errno))]
    Failed {
        /// The system's error number.
        errno: i32,
    },
}

/// Why the driver that was asked for cannot run. `auto` and `epoll` never meet it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// The driver needs io_uring, and there is none.
    #[error("--driver {driver} needs io_uring: {cause}. Use --driver epoll, or auto")]
    NoRing {
        /// The driver asked for.
        driver: Driver,
        /// What the kernel answered.
        cause: ProbeError,
    },
    /// The driver starts only with more locked memory than this process may have.
    #[error(
        "--driver {driver} needs {needed_bytes} bytes of locked memory, the limit is {limit_bytes}: \
         raise it with `ulimit -l`, or use --driver epoll, or auto"
    )]
    MemlockTooLow {
        /// The driver asked for.
        driver: Driver,
        /// The soft RLIMIT_MEMLOCK, in bytes.
        limit_bytes: u64,
        /// What the driver checks for at its start, in bytes.
        needed_bytes: u64,
    },
}

/// Picks the driver for this process and says why in one line, fit for the log.
///
/// # Errors
///
/// [`ChooseError`] when a driver was named that cannot run here. A named driver is never replaced
/// by another in silence.
pub fn choose(choice: DriverChoice) -> Result<(Driver, String), ChooseError> {
    // A limit that cannot be read is left for the runtime to judge.
    decide(choice, probe_io_uring, memlock_limit().unwrap_or(None))
}

/// [`choose`], with the answers of the kernel as arguments.
fn decide(
    choice: DriverChoice,
    probe: impl FnOnce() -> Result<(), ProbeError>,
    memlock_bytes: Option<u64>,
) -> Result<(Driver, String), ChooseError> {
    let asked = |driver| (driver, "asked for by --driver".to_owned());
    match choice {
        DriverChoice::Auto => Ok(match probe() {
            Ok(()) => (Driver::TokioUring, "the kernel allows io_uring".to_owned()),
            Err(cause) => (Driver::Epoll, cause.to_string()),
        }),
        DriverChoice::Epoll => Ok(asked(Driver::Epoll)),
        DriverChoice::TokioUring => {
            let driver = Driver::TokioUring;
            probe().map_err(|cause| ChooseError::NoRing { driver, cause })?;
            Ok(asked(driver))
        }
        DriverChoice::Glommio => {
            let driver = Driver::Glommio;
            probe().map_err(|cause| ChooseError::NoRing { driver, cause })?;
            let needed_bytes = GLOMMIO_MEMLOCK_BYTES_MIN;
            match memlock_bytes {
                Some(limit_bytes) if limit_bytes < needed_bytes => {
                    Err(ChooseError::MemlockTooLow { driver, limit_bytes, needed_bytes })
                }
                _ => Ok(asked(driver)),
            }
        }
    }
}

/// Sets up the smallest ring and closes it again.
///
/// Success means that rings are allowed, not that one per shard fits under the limit for locked
/// memory: a driver must still answer for the failure of its own.
///
/// # Errors
///
/// [`ProbeError`], by cause.
pub fn probe_io_uring() -> Result<(), ProbeError> {
    sys::io_uring_setup()
        .map(drop)
        .map_err(|error| refusal(error.raw_os_error().unwrap_or(0), disabled_setting()))
}

/// Names the cause of a refusal. `disabled` is `kernel.io_uring_disabled`, where that exists.
fn refusal(errno: i32, disabled: Option<u32>) -> ProbeError {
    match (errno, disabled) {
        (libc::EPERM, Some(setting @ 1..)) => ProbeError::Disabled { setting },
        (libc::EPERM | libc::EACCES, _) => ProbeError::Forbidden,
        (libc::ENOSYS, _) => ProbeError::Missing,
        (libc::ENOMEM, _) => {
            ProbeError::NoMemory { memlock_bytes: memlock_limit().unwrap_or(None) }
        }
        (errno, _) => ProbeError::Failed { errno },
    }
}

/// The kernel's switch for io_uring: 0 on, 1 for the privileged, 2 off. Kernels before 6.6 have none.
fn disabled_setting() -> Option<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?;
    text.trim().parse().ok()
}

/// The soft limit for locked memory in bytes, or `None` where there is no limit.
///
/// # Errors
///
/// What the system answers; a sandbox may forbid the question.
pub fn memlock_limit() -> io::Result<Option<u64>> {
    let limit = sys::limit(sys::Resource::Memlock)?;
    Ok((limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur))
}

/// Raises the soft limit for open files to the hard one, and returns the limit that then holds.
///
/// # Errors
///
/// What the system answers. The limit is then what it was.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = sys::limit(sys::Resource::Files)?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        sys::set_limit(sys::Resource::Files, limit)?;
    }
    Ok(limit.rlim_cur)
}

/// A limit in bytes as a reader wants it.
struct Limit(Option<u64>);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => write!(f, "{bytes} bytes"),
            None => f.write_str("not set"),
        }
    }
}

/// The system calls, which neither std nor a crate we use wraps.
#[allow(unsafe_code, reason = "libc has no safe face for these three calls")]
mod sys {
    use std::io;
    use std::os::fd::OwnedFd;

    #[derive(Clone, Copy)]
    pub(super) enum Resource {
        Files,
        Memlock,
    }

    #[cfg(target_os = "linux")]
    pub(super) fn io_uring_setup() -> io::Result<OwnedFd> {
        use std::os::fd::{FromRawFd, RawFd};

        /// `struct io_uring_params`: 120 bytes, all zero to ask for nothing in particular.
        #[repr(C, align(8))]
        struct Params([u32; 30]);

        let entries: libc::c_uint = 1;
        let mut params = Params([0; 30]);
        // SAFETY: `params` has the size and alignment of `struct io_uring_params` and outlives the
        // call, which is the only time the kernel writes to it.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, &raw mut params) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = RawFd::try_from(fd).expect("a descriptor is an int");
        // SAFETY: the call just returned this descriptor, and nothing else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn io_uring_setup() -> io::Result<OwnedFd> {
        Err(io::Error::from_raw_os_error(libc::ENOSYS))
    }

    pub(super) fn limit(resource: Resource) -> io::Result<libc::rlimit> {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is a valid place for the answer for the length of the call.
        let result = unsafe {
            match resource {
                Resource::Files => libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit),
                Resource::Memlock => libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit),
            }
        };
        if result == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
    }

    pub(super) fn set_limit(resource: Resource, limit: libc::rlimit) -> io::Result<()> {
        // SAFETY: `limit` is read during the call and not kept.
        let result = unsafe {
            match resource {
                Resource::Files => libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit),
                Resource::Memlock => libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit),
            }
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests;
