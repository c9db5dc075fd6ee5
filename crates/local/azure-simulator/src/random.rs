//! Seeded randomness: the same seed gives the same GUIDs, keys and chances.

use rsa::rand_core::{CryptoRng, Error, RngCore};
use sha2::{Digest, Sha256};

/// SHA-256 over (seed, counter). Good enough to make RSA keys for one machine's loopback, and nothing else.
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
    pool: Vec<u8>,
}

impl Random {
    /// `purpose` separates streams, so that how many keys are made does not change which GUIDs come out.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_be_bytes());
        hash.update(purpose.as_bytes());
        Self { seed: hash.finalize().into(), counter: 0, pool: Vec::new() }
    }

    fn byte(&mut self) -> u8 {
        loop {
            if let Some(byte) = self.pool.pop() {
                return byte;
            }
            let mut hash = Sha256::new();
            hash.update(self.seed);
            hash.update(self.counter.to_be_bytes());
            self.counter = self.counter.wrapping_add(1);
            self.pool = hash.finalize().to_vec();
        }
    }

    pub(crate) fn guid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// True with the given probability (0 never, 1 always).
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        let draw = f64::from(self.next_u32()) / (f64::from(u32::MAX) + 1.0);
        draw < probability
    }
}

impl RngCore for Random {
    fn next_u32(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.fill_bytes(&mut bytes);
        u32::from_be_bytes(bytes)
    }

    fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_bytes(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for slot in dest {
            *slot = self.byte();
        }
    }

    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl CryptoRng for Random {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_and_purposes_do_not_mix() {
        let guid = |seed, purpose| Random::new(seed, purpose).guid();
        assert_eq!(guid(1, "etags"), guid(1, "etags"));
        assert_ne!(guid(1, "etags"), guid(2, "etags"));
        assert_ne!(guid(1, "etags"), guid(1, "keys"));
    }

    #[test]
    fn chance_keeps_to_its_ends() {
        let mut random = Random::new(7, "chance");
        assert!((0..1000).all(|_| random.chance(1.0)));
        assert!((0..1000).all(|_| !random.chance(0.0)));
    }
}
