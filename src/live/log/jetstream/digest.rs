//! A running hash of what was received, by which replicas compare.
//!
//! Replicas begin to receive at different messages. So the hash is that of the last block of messages, whose numbers begin at
//! a multiple of the length of a block: it is the same for all who received the block as a whole.

use twox_hash::XxHash3_64;

/// Messages per block.
const BLOCK: u64 = 256;

/// The hash of the last block that was received as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// The number of the last message of the block; 0 if none was received as a whole.
    pub sequence: u64,
    /// The hash of its messages.
    pub hash: u64,
}

/// Hashes messages as they are received.
#[derive(Debug, Default)]
pub(super) struct Hasher {
    /// The block that is received, and its hash so far.
    running: Option<Digest>,
    last: Digest,
}

impl Hasher {
    /// Adds the message with this number, which follows the one before.
    pub(super) fn add(&mut self, sequence: u64, payload: &[u8]) {
        if sequence % BLOCK == 1 {
            self.running = Some(Digest::default());
        }
        let Some(running) = &mut self.running else { return };
        running.sequence = sequence;
        running.hash = XxHash3_64::oneshot_with_seed(running.hash ^ sequence, payload);
        if sequence.is_multiple_of(BLOCK) {
            self.last = *running;
        }
    }

    pub(super) fn last(&self) -> Digest {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(messages: &[(u64, &[u8])]) -> Digest {
        let mut hasher = Hasher::default();
        messages.iter().for_each(|(sequence, payload)| hasher.add(*sequence, payload));
        hasher.last()
    }

    #[test]
    fn is_that_of_the_last_whole_block_wherever_receiving_began() {
        let payloads: Vec<Vec<u8>> = (0..700u64).map(|number| number.to_le_bytes().to_vec()).collect();
        let from = |first: u64| -> Vec<(u64, &[u8])> {
            (first..700).map(|at| (at, &*payloads[at as usize])).collect()
        };
        let whole = digest(&from(1));
        assert_eq!(whole.sequence, 512);
        assert_eq!((digest(&from(200)), digest(&from(257))), (whole, whole));
        assert_eq!(digest(&from(258)), Digest::default());
        let mut changed = from(257);
        changed[7].1 = b"other";
        assert_ne!(digest(&changed), whole);
        changed[7].1 = &payloads[264];
        changed.swap(3, 4);
        (changed[3].0, changed[4].0) = (changed[4].0, changed[3].0);
        assert_ne!(digest(&changed), whole);
    }
}
