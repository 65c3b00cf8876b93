//! libFuzzer's entry to `fluxgate_fuzz_targets::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fluxgate_fuzz_targets::records(data));
