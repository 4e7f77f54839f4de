//! Whether a store refuses the second creator of an object, which everything here relies on.

use super::error::BucketError;
use super::handle::Bucket;

/// Objects that two creators race for.
const RACES: usize = 4;

/// What a probe found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probed {
    /// Of two creators, one wins.
    Sound,
    /// The credentials do not permit to write, so this process overwrites nothing.
    ReadOnly,
}

impl Bucket {
    /// Lets two creators race for fresh objects, one after the other and at the same time, and removes these objects.
    ///
    /// # Errors
    /// [`BucketError::TwoCreators`] if both win: the store must not be used. Otherwise if the store cannot be reached.
    pub fn probe(&self) -> Result<Probed, BucketError> {
        let names: Vec<String> =
            (0..RACES).map(|_| format!(".probe-{:032x}", rand::random::<u128>())).collect();
        let result = self.race(&names);
        for name in &names {
            if let Err(error) = self.delete(name) {
                tracing::debug!(%error, "cannot remove an object of the probe");
            }
        }
        match result {
            Err(BucketError::Forbidden { .. }) => Ok(Probed::ReadOnly),
            Err(error) => Err(error),
            Ok(true) => Ok(Probed::Sound),
            Ok(false) => Err(BucketError::TwoCreators { url: self.url().to_owned() }),
        }
    }

    /// Returns whether no two creators won.
    fn race(&self, names: &[String]) -> Result<bool, BucketError> {
        let races: Vec<_> =
            names.iter().map(|name| [b"one", b"two"].map(|bytes| self.begin_create(name, bytes))).collect();
        let mut is_sound = true;
        for (name, race) in names.iter().zip(races) {
            let mut winners = 0;
            for creator in race {
                winners += usize::from(creator.wait()?);
            }
            // Nothing can be in flight any more.
            winners += usize::from(self.begin_create(name, b"three").wait()?);
            is_sound &= winners <= 1;
        }
        Ok(is_sound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::Location;

    #[test]
    fn a_folder_is_sound_and_nothing_is_left_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let bucket = Bucket::open(&Location::Folder(folder.path().to_owned())).unwrap();
        assert_eq!(bucket.probe().unwrap(), Probed::Sound);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
