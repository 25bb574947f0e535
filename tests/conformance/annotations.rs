//! `annotations`: the webhook's error text, word for word.

use podswell::core::annotations::validate;
use podswell::core::defaults::ClusterDefaults;
use serde_json::Value;

use crate::Outcome;
use crate::vectors::string_map;

/// Replays one set of annotations.
pub(crate) fn replay(case: &Value) -> Outcome {
    let mut outcome = Outcome::default();
    match ClusterDefaults::parse(&string_map(&case["config_map"])) {
        Ok(defaults) => {
            let found = validate(&string_map(&case["annotations"]), &defaults).err();
            outcome.check("error", &case["error"].as_str(), &found.as_deref());
        }
        Err(error) => outcome.fail(format!("config_map refused: {error}")),
    }
    outcome
}
