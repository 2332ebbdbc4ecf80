//! `loco`.
fn main() {}
