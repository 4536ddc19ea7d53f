//! Seeded randomness. Each part of a node owns a stream split from its parent's, so that a new draw in one
//! part leaves the others unmoved.

/// 32 bytes from the operating system, or from the simulator's seed.
pub type Seed = [u8; 32];

/// A small, fast generator (SplitMix64 over a hashed state). Not for keys: those are made outside this crate.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A stream named `label` of the given seed.
    #[must_use]
    pub fn new(seed: &Seed, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(seed);
        hasher.update(label.as_bytes());
        let hash = hasher.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        Self { state: u64::from_le_bytes(first) }
    }

    /// A stream that depends on this one only through the draw made here.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self { state: self.next_u64() ^ 0x5851_F42D_4C95_7F2D }
    }

    /// Sixty-four uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A uniform number below `bound`; zero when the bound is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
        }
    }

    /// True once in `odds` draws on average.
    pub fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }

    /// Sixteen random bytes.
    pub fn bytes16(&mut self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        out[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        out
    }

    /// A random (version 4) UUID in its lower-case hyphenated form.
    pub fn uuid(&mut self) -> crate::ident::Uuid {
        let mut bytes = self.bytes16();
        bytes[6] = (bytes[6] & 0x0F) | 0x40;
        bytes[8] = (bytes[8] & 0x3F) | 0x80;
        crate::ident::Uuid(bytes)
    }
}
