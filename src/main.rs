//! podswell
fn main() {}
