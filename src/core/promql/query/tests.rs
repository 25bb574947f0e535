use proptest::prelude::*;

use super::*;

const TENANT: Tenant<'_> = Tenant { label: "namespace", namespace: "shop", deployment: "cart.v2" };

const STALE: Duration = Duration::from_millis(2500);

fn text(query: &str) -> String {
    narrow(query, TENANT, STALE).map_or_else(|why| format!("refused: {why}"), |query| query.text)
}

#[test]
fn every_selector_is_narrowed() {
    for (query, narrowed) in [
        ("up", r#"up{namespace="shop"}"#),
        ("up{}", r#"up{namespace="shop",}"#),
        ("sum(up)", r#"sum(up{namespace="shop"})"#),
        (r#"x{a="b"}"#, r#"x{namespace="shop",a="b"}"#),
        (r#"{__name__=~"x|y"}"#, r#"{namespace="shop",__name__=~"x|y"}"#),
        (r#"{"a.b", c="d"}"#, r#"{namespace="shop","a.b", c="d"}"#),
        ("sum by (a) (rate(x[1m])) / 2", r#"sum by (a) (rate(x{namespace="shop"}[1m])) / 2"#),
        (
            "sum(x) BY (a) and on (a) group_left (b) -y{}",
            r#"sum(x{namespace="shop"}) BY (a) and on (a) group_left (b) -y{namespace="shop",}"#,
        ),
        ("x == bool 1e+3 or vector(0x1F)", r#"x{namespace="shop"} == bool 1e+3 or vector(0x1F)"#),
        ("scalar(up) + time() - Inf", r#"scalar(up{namespace="shop"}) + time() - Inf"#),
        (
            r#"label_replace(x, "namespace", "other", "", "") * on(namespace) y"#,
            r#"label_replace(x{namespace="shop"}, "namespace", "other", "", "") * on(namespace) y{namespace="shop"}"#,
        ),
        // What looks like code inside a string is none.
        (r#"x{a="} or up{"}"#, r#"x{namespace="shop",a="} or up{"}"#),
        (r#"x{a='"} or up{b="'}"#, r#"x{namespace="shop",a='"} or up{b="'}"#),
        (r#"x{a="\"} or up{"}"#, r#"x{namespace="shop",a="\"} or up{"}"#),
        ("x{a=`\\`} or up", "x{namespace=\"shop\",a=`\\`} or up{namespace=\"shop\"}"),
        // Its own namespace may be named.
        (r#"x{namespace="shop"}"#, r#"x{namespace="shop",namespace="shop"}"#),
        (r#"x{namespace="$namespace"}"#, r#"x{namespace="shop",namespace="shop"}"#),
    ] {
        assert_eq!(text(query), narrowed, "{query}");
    }
}

/// A server that was away has no samples of that time; its last ones must not stand for it.
#[test]
fn earlier_moments_know_no_stale_samples() {
    let x = r#"last_over_time(x{namespace="shop"}[2500ms])"#;
    for (query, past) in [
        ("x", x.to_owned()),
        (" sum ( x ) by (a) + x", format!(" sum ( {x} ) by (a) + {x}")),
        (
            r#"x {a="b", } * 2"#,
            r#"last_over_time(x {namespace="shop",a="b", }[2500ms]) * 2"#.to_owned(),
        ),
        // What has a range knows its limits, and a stamp is that of the sample.
        ("rate(x[1m])", r#"rate(x{namespace="shop"}[1m])"#.to_owned()),
        ("timestamp(x) + (x)", format!(r#"timestamp(x{{namespace="shop"}}) + ({x})"#)),
        ("hour() + vector(1)", "hour() + vector(1)".to_owned()),
    ] {
        let asked = narrow(query, TENANT, STALE).map(|query| query.past);
        assert_eq!(asked, Ok(past), "{query}");
    }
}

#[test]
fn names_are_put_in_and_escaped() {
    for (query, narrowed) in [
        (r#"x{q="$deployment-in"}"#, r#"x{namespace="shop",q="cart.v2-in"}"#),
        (r#"x{q=~"$deployment|$namespace"}"#, r#"x{namespace="shop",q=~"cart\\.v2|shop"}"#),
        ("x{q=~`$deployment$`}", "x{namespace=\"shop\",q=~`cart\\.v2$`}"),
        (r#"x{q="$deployments $other $"}"#, r#"x{namespace="shop",q="$deployments $other $"}"#),
    ] {
        assert_eq!(text(query), narrowed, "{query}");
    }
    let odd = Tenant { label: "ns", namespace: "a\"b\\c", deployment: "d" };
    let narrowed = narrow("x{a='$namespace'}", odd, STALE).map(|query| query.text);
    assert_eq!(narrowed.as_deref(), Ok(r#"x{ns="a\"b\\c",a='a"b\\c'}"#));
}

#[test]
fn other_namespaces_are_out_of_reach() {
    for query in [
        r#"x{namespace="other"}"#,
        r#"x{namespace=~"shop|other"}"#,
        r#"x{namespace=~".+"}"#,
        r#"x{namespace!="shop"}"#,
        r#"x{namespace!~"shop"}"#,
        r#"x{namespace=""}"#,
        r#"x{"namespace"="other"}"#,
        r#"x{"a.b"="c", 'namespace'="other"}"#,
        r"sum(x) or up{ namespace = 'other' }",
        r#"x{a="b"} or up{namespace="other"}"#,
    ] {
        let error = narrow(query, TENANT, STALE).expect_err(query);
        assert!(matches!(error, QueryError::Foreign { .. }), "{query}: {error}");
        assert!(error.to_string().contains("own namespace"), "{query}: {error}");
    }
}

#[test]
fn what_is_not_understood_is_not_asked() {
    for (query, word) in [
        ("", "should stand before"),
        ("x{a=\"b\"", "expected `,` or `}`"),
        ("x{a=\"b}", "not closed"),
        ("x y", "operator"),
        ("x{} {}", "operator"),
        ("x +", "should stand before"),
        ("sum(x", "expected `,`"),
        ("sum", "parentheses"),
        ("SUM", "parentheses"),
        ("sum{a=\"b\"}", "parentheses"),
        ("by", "should stand before"),
        ("on", "should stand before"),
        ("x and offset", "should stand before"),
        ("x * on (a) group_left", "should stand before"),
        ("x or Unless", "should stand before"),
        ("rate(x[5m:1m])", "subqueries"),
        ("rate(x[5x])", "range"),
        ("rate(x[$__interval])", "range"),
        ("x offset 1d", "another time"),
        ("x OFFSET -1d", "another time"),
        ("x @ 5", "another time"),
        ("x[1m] @ end()", "another time"),
        ("x # } or up", "operator"),
        ("x{a=\"b\" # \"\n}", "expected"),
        ("rat(x[1m])", "did you mean rate?"),
        ("info(x, {a=\"b\"})", "no function"),
        ("limitk(1, x)", "no function"),
        ("1up", "no number"),
        ("\"text\"", "should stand before"),
        ("$namespace", "should stand before"),
        ("é{a=\"b\"}", "should stand before"),
        ("x{\"name\\x73pace\"=\"other\"}", "escape"),
        ("x{\"y\"}", "second metric name"),
        ("a+b+c+d+e+f+g+h+i", "more than 8 selectors"),
    ] {
        let error = narrow(query, TENANT, STALE).expect_err(query);
        assert!(error.to_string().contains(word), "{query}: {error}");
    }
    let deep = format!("{}1{}", "(".repeat(20), ")".repeat(20));
    assert!(text(&deep).contains("nested"));
    assert!(text(&"x".repeat(3000)).contains("longer"));
}

#[test]
fn the_longest_range_counts() {
    let range =
        |query| narrow(query, TENANT, STALE).expect(query).range.map(|range| range.as_secs());
    assert_eq!(range("x"), None);
    assert_eq!(range("rate(x[1m30s]) + max_over_time(y[30s])"), Some(90));
    assert_eq!(range("rate(x[1h])"), Some(3600));
}

/// The selectors of an expression, each with its matchers: an independent look at the outcome.
fn is_narrow(text: &str) -> bool {
    let mut outside = String::new();
    let mut quote = None;
    let mut escape = false;
    for c in text.chars() {
        match quote {
            Some(_) if escape => escape = false,
            Some('"' | '\'') if c == '\\' => escape = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => {
                quote = Some(c);
                outside.push('"');
            }
            None => outside.push(c),
        }
    }
    outside.matches('{').count() == outside.matches("{namespace=\"").count()
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}") {
        let _ = narrow(&text, TENANT, STALE);
    }

    #[test]
    fn what_passes_is_narrow(
        parts in prop::collection::vec(prop::sample::select(vec![
            "up", "x", "sum", " by ", "(", ")", "{", "}", "[5m]", "\"", "'", "`", "\\", "=", "=~", ",",
            "namespace", "other", " or ", " and ", " on", "1", "rate", "a=\"b\"", "$namespace", " ", "#", "\n",
        ]), 0..14)
    ) {
        if let Ok(query) = narrow(&parts.concat(), TENANT, STALE) {
            prop_assert!(is_narrow(&query.text), "{}", query.text);
            prop_assert!(is_narrow(&query.past), "{}", query.past);
        }
    }
}
