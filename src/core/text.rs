//! Words around values that strangers wrote: escaped and cut before they reach a log or a terminal; the
//! nearest known name for one that is not known; and plain tables.

use std::fmt::{self, Write as _};

/// How many characters of a value are shown.
const SHOWN: usize = 64;

/// The longest name for which a nearest one is sought; longer ones are no slips of the pen.
const LONGEST_NAME: usize = 64;

/// A value in quotes as it may stand in a message: control, formatting and other invisible characters
/// escaped, at most 64 characters and then the length in bytes.
pub fn shown(value: &str) -> String {
    let mut text = String::from('"');
    text.push_str(&escaped(value));
    text.push('"');
    text
}

/// As [`shown`], without the quotes.
pub fn escaped(value: &str) -> String {
    let mut text = String::new();
    for c in value.chars().take(SHOWN) {
        match c {
            '\'' => text.push(c),
            _ => text.extend(c.escape_debug()),
        }
    }
    if value.chars().nth(SHOWN).is_some() {
        // Writing to a String cannot fail.
        let _ = write!(text, "… ({} bytes)", value.len());
    }
    text
}

/// The candidate that is nearest to `name`, if it is near enough to be meant: case, dashes and up to
/// two typing slips do not count (one in short names).
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let folded = fold(name);
    let allowed = if folded.len() < 6 { 1 } else { 2 };
    candidates
        .map(|candidate| (slips(&folded, &fold(candidate)), candidate))
        .filter(|(slips, _)| *slips <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn fold(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '-' | '_' | '.')).flat_map(char::to_lowercase).collect()
}

/// How many insertions, deletions, replacements and swaps of neighbours turn one name into the other.
fn slips(from: &[char], to: &[char]) -> usize {
    // Rows of the usual table: the one before the previous, the previous, the current one.
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
    for (i, a) in from.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut best = (at(&previous, j) + usize::from(a != b))
                .min(at(&previous, j + 1) + 1)
                .min(at(&current, j) + 1);
            let swapped = i > 0 && j > 0 && from.get(i - 1) == Some(b) && to.get(j - 1) == Some(a);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    at(&previous, to.len())
}

/// The end of a complaint about `name`: which of the candidates was probably meant, if any is near.
pub(crate) fn did_you_mean<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    suggestion(nearest(name, candidates))
}

/// The end of a complaint, if something is known that was probably meant.
pub(crate) fn suggestion(meant: Option<impl fmt::Display>) -> String {
    meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"))
}

/// Lays rows out; the last cell of a row is not padded. Every row ends with a newline.
pub fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(known) => *known = width.max(*known),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let gap = width + 2 - cell.chars().count();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', gap));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strange_characters_are_escaped() {
        for (value, text) in [
            ("5", "\"5\""),
            ("", "\"\""),
            ("a\"b\\", r#""a\"b\\""#),
            ("it's", "\"it's\""),
            ("\u{1b}[31mred\0", r#""\u{1b}[31mred\0""#),
            ("\u{202e}evil", r#""\u{202e}evil""#),
            ("two\nlines", r#""two\nlines""#),
            ("gr\u{fc}n", "\"gr\u{fc}n\""),
        ] {
            assert_eq!(shown(value), text);
        }
    }

    #[test]
    fn long_values_are_cut() {
        let text = shown(&"x".repeat(262_144));
        assert!(text.ends_with("x… (262144 bytes)\"") && text.len() < 100, "{text}");
    }

    #[test]
    fn slips_of_the_pen_are_recognised() {
        let names = ["min-scale", "max-scale", "target", "window", "scale-down-delay"];
        for (name, meant) in [
            ("minscale", Some("min-scale")),
            ("MIN_SCALE", Some("min-scale")),
            ("mni-scale", Some("min-scale")),
            ("targt", Some("target")),
            ("wnidow", Some("window")),
            ("scale-down-dely", Some("scale-down-delay")),
            ("scale-up-delay", None),
            ("", None),
            ("tgt", None),
        ] {
            assert_eq!(nearest(name, names.into_iter()), meant, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_grows(text in any::<String>()) {
            prop_assert!(shown(&text).len() < 64 * 12 + 40);
            prop_assert!(!shown(&text).chars().any(char::is_control));
            let _ = nearest(&text, ["min-scale", "target"].into_iter());
        }

        #[test]
        fn slips_are_a_distance(a in "[ab]{0,6}", b in "[ab]{0,6}") {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            prop_assert_eq!(slips(&a, &b), slips(&b, &a));
            prop_assert_eq!(slips(&a, &b) == 0, a == b);
        }
    }

    fn cells(row: &[&str]) -> Vec<String> {
        row.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_line_up() {
        let text = columns(&[cells(&["NAME", "N"]), cells(&["größer", "12"]), cells(&["", "3"])]);
        assert_eq!(text, "NAME    N\ngrößer  12\n        3\n");
    }
}
