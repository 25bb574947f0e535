//! As much of PromQL as has to be understood: a plain series selector, the only query that can be asked for
//! raw samples, and (in [`query`]) what a workload may ask for itself.
//!
//! A plain selector is `name{label="value", …}` and nothing else: no function, no operator, no range, no
//! offset. The range is ours to add.

mod cursor;
pub mod query;

use cursor::{Cursor, Item, is_label_byte, is_label_start, is_metric_byte, is_metric_start};

/// Checks that `text` is a plain series selector.
///
/// # Errors
/// A lower-case fragment that says what is wrong and at which byte.
pub fn check_selector(text: &str) -> Result<(), String> {
    let mut cursor = Cursor { text, at: 0 };
    let name = cursor.word(is_metric_start, is_metric_byte);
    cursor.space();
    let mut anchored = !name.is_empty();
    if cursor.eat('{') {
        let mut named = !name.is_empty();
        cursor.matchers(|item, cursor| {
            if matches!(item, Item::Name) && std::mem::replace(&mut named, true) {
                return Err(cursor.complaint("a second metric name before"));
            }
            anchored |= item.narrows();
            Ok(())
        })?;
        cursor.space();
    }
    if cursor.at < text.len() {
        return Err(cursor.complaint("a plain series selector ends before"));
    }
    if anchored { Ok(()) } else { Err("names no metric and matches every series".into()) }
}

/// Whether `text` is a valid label name.
pub fn is_label_name(text: &str) -> bool {
    let mut cursor = Cursor { text, at: 0 };
    !cursor.word(is_label_start, is_label_byte).is_empty() && cursor.at == text.len()
}

/// Whether a label holds the name of a namespace, as far as its own name tells: `namespace`,
/// `exported_namespace`, `kubernetes_namespace_name`.
pub fn names_namespace(label: &str) -> bool {
    let label = label.to_ascii_lowercase();
    label.contains("namespace") || label.split('_').any(|word| word == "ns")
}

/// The identifiers of a PromQL expression outside quoted strings, in order.
pub fn identifiers(expression: &str) -> Vec<&str> {
    let mut cursor = Cursor { text: expression, at: 0 };
    let mut found = Vec::new();
    while let Some(next) = cursor.peek() {
        if matches!(next, '"' | '\'' | '`') {
            if cursor.string().is_err() {
                break;
            }
        } else if is_metric_start(next) {
            found.push(cursor.word(is_metric_start, is_metric_byte));
        } else {
            cursor.advance(next);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_selectors_pass() {
        for text in [
            "up",
            "http_requests_total",
            "job:load:sum",
            "x{}",
            "x { }",
            "x{a=\"1\"}",
            "x{a=\"1\",}",
            "x{ a =~ \"b.*\" , c != 'd', e !~ `f` }",
            "{job=\"api\"}",
            "{\"http.requests\", code=\"200\"}",
            "x{\"a.b\"=\"c\"}",
            "x{a=\"}[5m]\"}",
            "x{a=\"\\\"\"}",
            "sum{a=\"1\"}",
        ] {
            assert_eq!(check_selector(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn everything_else_does_not() {
        for text in [
            "",
            " ",
            "{}",
            "{a!=\"b\"}",
            "{a=~\".*\"}",
            "rate(x[5m])",
            "sum(x)",
            "x[5m]",
            "x{a=\"1\"}[5m]",
            "x offset 5m",
            "x @ 5",
            "x + y",
            "x{a=\"1\"} or y",
            "x{a=1}",
            "x{a}",
            "x{=\"1\"}",
            "x{a==\"1\"}",
            "x{a=\"1\"",
            "x{a=\"1}",
            "x{a=\"1\" b=\"2\"}",
            "x{\"y\"}",
            "x;y",
            "1",
            "(x)",
            "x#comment",
            "é{a=\"1\"}",
        ] {
            assert!(check_selector(text).is_err(), "{text}");
        }
    }

    #[test]
    fn identifiers_skip_strings() {
        assert_eq!(identifiers("sum by (a) (x{b=\"max(\"}) / 2"), ["sum", "by", "a", "x", "b"]);
        assert_eq!(identifiers("x{a=\"unclosed"), ["x", "a"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}|[a-z{}=!~,\"'`\\\\ \n]{0,40}") {
            let _ = check_selector(&text);
            let _ = identifiers(&text);
            let _ = is_label_name(&text);
        }
    }
}
