#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (shortlist::fuzzing::target("jsonl").run)(bytes));
