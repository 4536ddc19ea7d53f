//! The shape of a world: who there is and what they may do, drawn from the seed before anything happens.
//!
//! It is plain data, so that a world can be played by another driver as it is.

use bigpeer_core::rng::Rng;

use crate::profile::Profile;

/// Who there is.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Partitions of the server's directory.
    pub(crate) server_partitions: u16,
    /// Threads of the server; none to draw them anew at each start.
    pub(crate) server_threads: Option<u16>,
    pub(crate) devices: Vec<DeviceShape>,
    /// The rights of each client of the server.
    pub(crate) clients: Vec<Profile>,
}

/// One device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeviceShape {
    pub(crate) partitions: u16,
    pub(crate) profile: Profile,
}

impl Shape {
    /// The shape that a seed draws.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let (server_partitions, server_threads) = match rng.below(5) {
            0 => (1, None),
            1 => (2, None),
            2 => (2, Some(2)),
            3 => (4, None),
            _ => (8, None),
        };
        let devices = (0..1 + rng.below(4))
            .map(|_| DeviceShape {
                partitions: 1 + rng.below(2) as u16,
                profile: if DEVICES_OF_FEW_RIGHTS { rights(rng) } else { writer(rng) },
            })
            .collect();
        let clients = (0..1 + rng.below(4))
            .map(|_| if CLIENTS_OF_FEW_RIGHTS { rights(rng) } else { Profile::Everything })
            .collect();
        Self { server_partitions, server_threads, devices, clients }
    }
}

/// Half of all may do everything.
fn rights(rng: &mut Rng) -> Profile {
    if rng.one_in(2) {
        return Profile::Everything;
    }
    Profile::ALL[rng.below(Profile::ALL.len() as u64) as usize]
}

/// Three of four may do everything, the others write some collections.
fn writer(rng: &mut Rng) -> Profile {
    if rng.one_in(4) { Profile::NoSecrets } else { Profile::Everything }
}

/// Whether devices have narrow keys as well. Off while an answer to a peer is made from documents that it may not
/// read, and while an acknowledgement writes what its sender may not.
const DEVICES_OF_FEW_RIGHTS: bool = false;

/// Whether clients of the server have narrow keys as well. Off while a mutation judges its condition with
/// documents in view that its key may not read, and names them in its refusal.
const CLIENTS_OF_FEW_RIGHTS: bool = false;
