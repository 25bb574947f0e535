//! Field and label selectors as clients write them.

use serde_json::Value;

/// What an object must have to be selected.
#[derive(Debug, Default)]
pub(super) struct Selector {
    terms: Vec<Term>,
}

#[derive(Debug)]
struct Term {
    path: Vec<String>,
    demand: Demand,
}

/// What is asked of the value at a path.
#[derive(Debug)]
enum Demand {
    /// It is one of these.
    In(Vec<String>),
    /// It is none of these, or not there.
    NotIn(Vec<String>),
    /// It is there, or is not.
    Exists(bool),
}

impl Selector {
    /// Parses `metadata.name=x,status.phase!=Failed`, and `app=web,tier in (a, b),!old`.
    ///
    /// # Errors
    /// The term that cannot be read.
    pub(super) fn parse(fields: Option<&str>, labels: Option<&str>) -> Result<Self, String> {
        let mut terms = Vec::new();
        for term in terms_of(fields.unwrap_or_default()) {
            let (path, demand) =
                comparison(term).ok_or_else(|| format!("invalid field selector {term:?}"))?;
            terms.push(Term { path: path.split('.').map(str::to_owned).collect(), demand });
        }
        for term in terms_of(labels.unwrap_or_default()) {
            let (label, demand) = label_demand(term)
                .ok_or_else(|| format!("unable to parse requirement {term:?}"))?;
            let path = vec!["metadata".to_owned(), "labels".to_owned(), label.to_owned()];
            terms.push(Term { path, demand });
        }
        Ok(Self { terms })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| {
            let found = term.path.iter().try_fold(object, |value, name| value.get(name));
            // A field that is not there is an empty one; a label that is not there is none.
            let absent = if term.is_label() { None } else { Some("") };
            let text = found.and_then(Value::as_str).or(absent);
            match &term.demand {
                Demand::In(values) => {
                    text.is_some_and(|text| values.iter().any(|value| value == text))
                }
                Demand::NotIn(values) => {
                    text.is_none_or(|text| values.iter().all(|value| value != text))
                }
                Demand::Exists(there) => found.is_some() == *there,
            }
        })
    }
}

impl Term {
    fn is_label(&self) -> bool {
        self.path.get(1).is_some_and(|name| name == "labels")
    }
}

/// Splits at the commas outside parentheses.
fn terms_of(text: &str) -> Vec<&str> {
    let mut inside = false;
    let terms = text.split(|c| {
        inside = (inside || c == '(') && c != ')';
        c == ',' && !inside
    });
    terms.map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn comparison(term: &str) -> Option<(&str, Demand)> {
    let values = |value: &str| vec![value.trim().to_owned()];
    if let Some((path, value)) = term.split_once("!=") {
        return Some((path.trim(), Demand::NotIn(values(value))));
    }
    let (path, value) = term.split_once("==").or_else(|| term.split_once('='))?;
    Some((path.trim(), Demand::In(values(value))))
}

fn label_demand(term: &str) -> Option<(&str, Demand)> {
    let set = |list: &str| -> Option<Vec<String>> {
        let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(list.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let (label, demand) = if let Some((label, list)) = term.split_once(" notin ") {
        (label, Demand::NotIn(set(list)?))
    } else if let Some((label, list)) = term.split_once(" in ") {
        (label, Demand::In(set(list)?))
    } else if let Some(found) = comparison(term) {
        found
    } else if let Some(label) = term.strip_prefix('!') {
        (label, Demand::Exists(false))
    } else {
        (term, Demand::Exists(true))
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    let label = label.trim();
    let values: &[String] = match &demand {
        Demand::In(values) | Demand::NotIn(values) => values,
        Demand::Exists(_) => &[],
    };
    let good = !label.is_empty()
        && label.chars().all(plain)
        && values.iter().all(|value| value.chars().all(plain));
    good.then_some((label, demand))
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
            (Some("spec.nodeName="), None, true),
            (None, Some("app=web"), true),
            (None, Some("app=db"), false),
            (None, Some("app in (db, web)"), true),
            (None, Some("app notin (db,web),app"), false),
            (None, Some("tier notin (a),!tier"), true),
            (None, Some("tier!=a"), true),
            (None, Some("tier"), false),
        ] {
            let selector = Selector::parse(fields, labels).unwrap();
            assert_eq!(selector.matches(&pod), matches, "{fields:?} {labels:?}");
        }
        for labels in ["app===web", "app in db", "a b", "=x"] {
            assert!(Selector::parse(None, Some(labels)).is_err(), "{labels}");
        }
        assert!(Selector::parse(Some("nonsense"), None).is_err());
    }
}
