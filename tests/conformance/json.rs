//! Reading the fields of a case; a field that is missing or of another type is a broken vector and panics.

use std::time::Duration;

use podswell::core::Timestamp;
use serde_json::Value;

pub(crate) fn f64(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("{key} is not a number in {value}"))
}

pub(crate) fn i64(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or_else(|| panic!("{key} is not an integer in {value}"))
}

pub(crate) fn i32(value: &Value, key: &str) -> i32 {
    i64(value, key).try_into().unwrap_or_else(|_| panic!("{key} is not an int32 in {value}"))
}

pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is not a string in {value}"))
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is not a list in {value}"))
}

pub(crate) fn seconds(value: &Value, key: &str) -> Duration {
    Duration::from_secs_f64(f64(value, key))
}

pub(crate) fn unix_ms(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).expect("a time within range")
}
