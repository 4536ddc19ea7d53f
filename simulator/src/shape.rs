//! The shape of a world: who there is and what they may do, drawn from the seed before anything happens.
//!
//! It is plain data, so that a world can be played by another driver as it is.

use bigpeer_core::rng::Rng;

use crate::profile::Profile;
use crate::world::clock::{MS, SECOND, US};
use crate::world::turns::{LONG_TURN_NS, TURN_NS};

/// The members of a world, and how they are made.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Partitions of the server's directory.
    pub(crate) server_partitions: u16,
    /// Threads of the server; none to draw them anew at each start.
    pub(crate) server_threads: Option<u16>,
    pub(crate) devices: Vec<DeviceShape>,
    /// The rights of a peer that lies, where there is one.
    pub(crate) hostile: Option<Profile>,
    /// Readers whose keys change while they read.
    pub(crate) guests: usize,
    /// In the end there is a rush for one partition.
    pub(crate) has_rush: bool,
    /// Operators race for the catalog.
    pub(crate) is_racing: bool,
    /// The rights of each client of the server.
    pub(crate) clients: Vec<Profile>,
    /// How far wall clocks jump, in either direction.
    pub(crate) clock_jump_ms: u64,
    /// How long nothing at all happens while everybody is connected, once in a run.
    pub(crate) idle_ns: u64,
    /// The use that is made of images of the server's disk.
    pub(crate) images: Images,
    pub(crate) bulk: Bulk,
    /// The longest that a message lies in a mailbox, most of the time.
    pub(crate) mailbox_ns: u64,
    /// The longest that a thread goes by one look at its clocks and the log, most of the time.
    pub(crate) turn_ns: u64,
    /// Devices ask often whether they are in sync.
    pub(crate) asks_often: bool,
    /// Each device meets one thread of the server, by its number: a clone another one than the device that it is of.
    pub(crate) is_pinned: bool,
}

/// The fate of images of the server's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    /// No image is ever taken.
    None,
    /// The server is put back to an older one, as from a backup.
    PutBack,
    /// Two run by turns: the server and a clone of it, which its devices take for one.
    ByTurns,
}

/// Documents that are large for the limits of a world. Devices write them, and nobody reads them but to sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bulk {
    None,
    /// Several devices add to one document, until some of them meet the limit of what merging may make.
    Grown,
    /// Up to 3 MiB, where updates aim at some hundred bytes.
    Large,
}

/// The part of a shape that came later: it is drawn from a stream of its own, and by few seeds.
#[derive(Clone, Copy, Debug)]
struct Rarities {
    clock_jump_ms: u64,
    idle_ns: u64,
}

impl Rarities {
    fn draw(rng: &mut Rng) -> Self {
        let usual = Self { clock_jump_ms: 100_000, idle_ns: 0 };
        match rng.below(12) {
            0 => Self { clock_jump_ms: 15 * 60_000, ..usual },
            1 => Self { clock_jump_ms: 3 * 3_600_000, ..usual },
            2 => Self { idle_ns: (20 + rng.below(60)) * 60 * SECOND, ..usual },
            3 => Self { clock_jump_ms: YEARS_MS, ..usual },
            _ => usual,
        }
    }
}

/// The shape of one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceShape {
    pub(crate) partitions: u16,
    pub(crate) profile: Profile,
}

impl Shape {
    /// The shape that a seed draws. What came later has streams of its own, from the `root` of all.
    pub(crate) fn draw(rng: &mut Rng, root: &[u8; 32]) -> Self {
        let Rarities { clock_jump_ms, idle_ns } = Rarities::draw(&mut Rng::new(root, "rarities"));
        let images = match Rng::new(root, "images").below(16) {
            0 => Images::PutBack,
            1 => Images::ByTurns,
            _ => Images::None,
        };
        let bulk = match Rng::new(root, "bulk").below(24) {
            0 => Bulk::Grown,
            1 => Bulk::Large,
            _ => Bulk::None,
        };
        let is_slow = Rng::new(root, "mailboxes").one_in(16);
        let has_long_turns = is_slow || Rng::new(root, "turns").one_in(8);
        let is_pinned = Rng::new(root, "pinned").one_in(8);
        let has_rush = Rng::new(root, "rushing").one_in(8);
        let is_racing = Rng::new(root, "racing").one_in(4);
        let mut guests = Rng::new(root, "guests");
        let guests = if guests.one_in(4) { 1 + guests.below(2) as usize } else { 0 };
        let (server_partitions, server_threads) = match rng.below(5) {
            0 => (1, None),
            1 => (2, None),
            2 => (2, Some(2)),
            3 => (4, None),
            _ => (8, None),
        };
        let devices = (0..1 + rng.below(4))
            .map(|_| DeviceShape { partitions: 1 + rng.below(2) as u16, profile: rights(rng) })
            .collect();
        let clients = (0..1 + rng.below(4)).map(|_| rights(rng)).collect();
        let hostile = rng.one_in(3).then(|| rights(rng));
        Self {
            server_partitions,
            server_threads,
            devices,
            hostile,
            guests,
            is_racing,
            has_rush,
            clients,
            clock_jump_ms,
            idle_ns,
            images,
            bulk,
            mailbox_ns: if is_slow { 10 * MS } else { 30 * US },
            turn_ns: if has_long_turns { LONG_TURN_NS } else { TURN_NS },
            // A question that meets a position which its thread has not seen is rare, even there.
            asks_often: has_long_turns,
            is_pinned,
        }
    }
}

/// Clocks of batteries that are empty, and of hands that slip on a keyboard: up to three years in either direction.
pub(crate) const YEARS_MS: u64 = 3 * 365 * 24 * 3_600_000;

/// Half of all may do everything.
fn rights(rng: &mut Rng) -> Profile {
    if rng.one_in(2) {
        return Profile::Everything;
    }
    Profile::ALL[rng.below(Profile::ALL.len() as u64) as usize]
}
