//! Plain tables for terminals: columns as wide as their widest cell, two spaces between them.

/// Lays rows out; the last cell of a row is not padded. Every row ends with a newline.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
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
    fn columns_line_up() {
        let text = columns(&[cells(&["NAME", "N"]), cells(&["größer", "12"]), cells(&["", "3"])]);
        assert_eq!(text, "NAME    N\ngrößer  12\n        3\n");
    }

    #[test]
    fn csv_is_quoted_and_holds_no_formula() {
        let line = csv_line(&cells(&["a,b", "say \"x\"", "=1+1", "-3", "-", "-cmd"]));
        assert_eq!(line, "\"a,b\",\"say \"\"x\"\"\",'=1+1,-3,-,'-cmd\n");
    }
}
