//! Field and label selectors, as far as equality goes.

use serde_json::Value;

/// What an object must have to be selected.
#[derive(Debug, Default)]
pub(super) struct Selector {
    terms: Vec<Term>,
}

#[derive(Debug)]
struct Term {
    path: Vec<String>,
    value: String,
    equal: bool,
}

impl Selector {
    /// Parses `metadata.name=x,status.phase!=Failed` and `app=web`.
    ///
    /// # Errors
    /// The term that is no comparison.
    pub(super) fn parse(fields: Option<&str>, labels: Option<&str>) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in
            fields.into_iter().flat_map(|text| text.split(',')).filter(|term| !term.is_empty())
        {
            let (path, value, equal) = comparison(term)?;
            let path = path.split('.').map(str::to_owned).collect();
            terms.push(Term { path, value, equal });
        }
        for term in
            labels.into_iter().flat_map(|text| text.split(',')).filter(|term| !term.is_empty())
        {
            let (label, value, equal) = comparison(term)?;
            let path = vec!["metadata".to_owned(), "labels".to_owned(), label.to_owned()];
            terms.push(Term { path, value, equal });
        }
        Ok(Self { terms })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let found = term.path.iter().try_fold(object, |value, name| value.get(name));
            let found = found.unwrap_or(&Value::Null);
            (found.as_str().unwrap_or_default() == term.value) == term.equal
        })
    }
}

fn comparison(term: &str) -> Result<(&str, String, bool), String> {
    let split = |operator| term.split_once(operator);
    let (path, value, equal) = if let Some((path, value)) = split("!=") {
        (path, value, false)
    } else if let Some((path, value)) = split("==").or_else(|| split("=")) {
        (path, value, true)
    } else {
        return Err(format!("selector {term:?} is not a comparison by = or !="));
    };
    Ok((path.trim(), value.trim().to_owned(), equal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_compare() {
        let pod = json!({"metadata": {"name": "a", "labels": {"app": "web"}}, "status": {"phase": "Running"}});
        for (fields, labels, matches) in [
            (None, None, true),
            (Some("metadata.name=a"), None, true),
            (Some("metadata.name==b"), None, false),
            (Some("status.phase!=Succeeded,status.phase!=Failed"), None, true),
            (Some("status.phase!=Running"), Some("app=web"), false),
            (None, Some("app=web"), true),
            (None, Some("app=db"), false),
        ] {
            let selector = Selector::parse(fields, labels).unwrap();
            assert_eq!(selector.matches(&pod), matches, "{fields:?} {labels:?}");
        }
        assert!(Selector::parse(Some("nonsense"), None).is_err());
    }
}
