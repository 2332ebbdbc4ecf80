//! Benchmarks on real guests, beside their peers, by pixels of the presented target.
