//! Tables for spreadsheets.

/// One line of comma-separated values (RFC 4180, with plain newlines). A cell that a spreadsheet would
/// take for a formula gets an apostrophe in front.
pub(super) fn csv_line(cells: &[String]) -> String {
    let quoted = cells.iter().map(|cell| {
        let formula = cell.starts_with(['=', '+', '@', '\t', '\r'])
            || cell.starts_with('-') && cell.parse::<f64>().is_err() && cell.len() > 1;
        let cell = if formula { format!("'{cell}") } else { cell.clone() };
        if cell.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", cell.replace('"', "\"\""))
        } else {
            cell
        }
    });
    quoted.collect::<Vec<_>>().join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(row: &[&str]) -> Vec<String> {
        row.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn csv_is_quoted_and_holds_no_formula() {
        let line = csv_line(&cells(&["a,b", "say \"x\"", "=1+1", "-3", "-", "-cmd"]));
        assert_eq!(line, "\"a,b\",\"say \"\"x\"\"\",'=1+1,-3,-,'-cmd\n");
    }
}
