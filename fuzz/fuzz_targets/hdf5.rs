#![no_main]

// The reader turns panics of the HDF5 decoder into errors, and the panic hook of libFuzzer would abort at the first one.
// A panic that the reader does not catch is still a finding.
libfuzzer_sys::fuzz_target!(
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| (shortlist::fuzzing::target("hdf5").run)(bytes)
);
