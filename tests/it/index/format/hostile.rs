//! Files that an attacker could send.

use proptest::prelude::*;
use shortlist::attributes::Columns;
use shortlist::index::{HEADER_BYTES, verify};

use super::{Sample, reseal, search_every_way};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A file with correct checksums and wrong contents causes an error or an answer, never a panic.
    #[test]
    fn a_hostile_file_never_brings_a_search_down(
        section in 0usize..64,
        patches in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        thread_local!(static SAMPLE: Sample = Sample::new());
        SAMPLE.with(|sample| {
            let kind = sample.sections[section % sample.sections.len()].kind;
            let bytes = sample.with_section(kind, |section| {
                for (at, byte) in &patches {
                    if !section.is_empty() {
                        section[at.index(section.len())] = *byte;
                    }
                }
            });
            if let Ok(index) = sample.open(&bytes)
                && Columns::open(&index).is_ok()
            {
                search_every_way(&index);
                let _ = verify(&index);
            }
        });
    }

    /// Opening arbitrary bytes terminates without a panic.
    #[test]
    fn any_bytes_after_the_magic_are_refused_without_a_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
        thread_local!(static SAMPLE: Sample = Sample::new());
        SAMPLE.with(|sample| {
            let mut bytes = b"SHRTLIST\x01\x00\x00\x00".to_vec();
            bytes.extend(&tail);
            if bytes.len() >= HEADER_BYTES {
                reseal_any(&mut bytes);
            }
            assert!(sample.open(&bytes).is_err());
        });
    }
}

fn reseal_any(bytes: &mut [u8]) {
    bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
    let length = bytes.len() as u64;
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    reseal(bytes);
}
