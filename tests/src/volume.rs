//! File systems of our own: an ext4 whose power can be cut, and small ones that can be filled.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::Scratch;
use crate::{setting, system};

/// A mounted file system, unmounted when it is dropped.
#[derive(Debug)]
pub struct Volume {
    mount: PathBuf,
    /// The file that it lies in, with its kind; none for one in memory.
    image: Option<(PathBuf, &'static str)>,
    _scratch: Scratch,
}

/// True when what needs mounts is left out by `BIGPEER_TEST_POWER_CUT=off`; says so.
#[must_use]
pub fn is_left_out(what: &str) -> bool {
    let is_off = setting("BIGPEER_TEST_POWER_CUT", String::new()) == "off";
    if is_off {
        eprintln!("LEFT OUT, as BIGPEER_TEST_POWER_CUT is off: {what}");
    }
    is_off
}

impl Volume {
    /// An ext4 on a loop device.
    ///
    /// # Panics
    ///
    /// When this machine does not allow it.
    #[must_use]
    pub fn ext4(mib: u64) -> Self {
        Self::on_loop("ext4", |image| {
            let file = File::create(image).expect("temporary files can be written");
            file.set_len(mib << 20).expect("a sparse file");
            tool(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image));
        })
    }

    /// A btrfs of 128 MiB on a loop device. Whatever is written to it takes new space, and may find none, also where a
    /// file already has its bytes.
    ///
    /// `tests/data` has it, packed: `mkfs.btrfs -M` made it, which few machines have.
    ///
    /// # Panics
    ///
    /// When this machine does not allow it.
    #[must_use]
    pub fn btrfs() -> Self {
        Self::on_loop("btrfs", |image| {
            let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/data/btrfs-128m.img.xz");
            let file = File::create(image).expect("temporary files can be written");
            tool(Command::new("xz").args(["--decompress", "--stdout", packed]).stdout(file));
        })
    }

    fn on_loop(kind: &'static str, make: impl FnOnce(&Path)) -> Self {
        let scratch = Scratch::new();
        let (image, mount) = (scratch.join("image"), scratch.join("mount"));
        std::fs::create_dir(&mount).expect("temporary files can be written");
        make(&image);
        let volume = Self { mount, image: Some((image, kind)), _scratch: scratch };
        volume.mount();
        volume
    }

    /// A file system in memory that takes `mib` MiB.
    ///
    /// # Panics
    ///
    /// When this machine does not allow it.
    #[must_use]
    pub fn in_memory(mib: u64) -> Self {
        let scratch = Scratch::new();
        let mount = scratch.join("mount");
        std::fs::create_dir(&mount).expect("temporary files can be written");
        let size = format!("size={mib}m");
        tool(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "bigpeer"]).arg(&mount));
        Self { mount, image: None, _scratch: scratch }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Cuts the power: what the device does not hold by this moment is lost.
    ///
    /// # Panics
    ///
    /// When the file system does not know the call.
    pub fn cut_power(&self) {
        system::shut_down_ext4(&self.mount).expect("ext4 can be shut down");
    }

    /// Mounts again after a cut. Nobody may have a file open.
    ///
    /// # Panics
    ///
    /// When it does not mount.
    pub fn power_on(&self) {
        system::unmount(&self.mount).expect("no process uses the volume");
        self.mount();
    }

    /// Mounts an ext4 to be read alone, or to be written again. Nobody may have a file open to write.
    ///
    /// # Panics
    ///
    /// When it is not mounted so.
    pub fn remount(&self, is_read_only: bool) {
        let access = if is_read_only { "remount,ro" } else { "remount,rw" };
        tool(Command::new("mount").args(["-o", access]).arg(&self.mount));
    }

    /// Lets an ext4 find an error in itself, upon which it becomes read-only, whoever has files open.
    ///
    /// # Panics
    ///
    /// When the file system does not know how to.
    pub fn find_error(&self) {
        let device = self.device();
        tool(Command::new("mount").args(["-o", "remount,errors=remount-ro"]).arg(&self.mount));
        let trigger = format!("/sys/fs/ext4/{device}/trigger_fs_error");
        std::fs::write(&trigger, "a test").expect("ext4 has this switch since Linux 4.17");
    }

    fn device(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("Linux");
        let device = mounts.lines().find_map(|line| {
            let (device, rest) = line.split_once(' ')?;
            rest.starts_with(&format!("{} ", self.mount.display())).then_some(device)
        });
        let device = device.and_then(|device| device.strip_prefix("/dev/"));
        device.expect("the volume is mounted from a device").to_owned()
    }

    /// How many flushes the volume's device has been asked for.
    ///
    /// # Panics
    ///
    /// When the kernel does not count them.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        let device = self.device();
        let stats = std::fs::read_to_string("/proc/diskstats").expect("Linux");
        let line = stats.lines().find(|line| line.split_whitespace().nth(2) == Some(&device));
        let line = line.expect("every block device has a line");
        // The 19th field, from Linux 5.5: flush requests completed.
        let count = line.split_whitespace().nth(18).and_then(|count| count.parse().ok());
        count.expect("this kernel counts flushes: it is 5.5 or later")
    }

    fn mount(&self) {
        let (image, kind) = self.image.as_ref().expect("what is in memory is not mounted again");
        tool(Command::new("mount").args(["-t", kind, "-o", "loop"]).arg(image).arg(&self.mount));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = system::unmount(&self.mount) {
            eprintln!("{} stays mounted: {error}", self.mount.display());
        }
    }
}

fn tool(command: &mut Command) {
    let output = command.output();
    let result = match &output {
        Ok(output) if output.status.success() => return,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    let who = if system::is_root() { "root" } else { "not root" };
    panic!(
        "{command:?} failed ({who}): {result}\nThis test mounts a file system, which needs root, loop devices, mkfs.ext4, \
         or xz and a kernel with btrfs. BIGPEER_TEST_POWER_CUT=off leaves such tests out"
    );
}
