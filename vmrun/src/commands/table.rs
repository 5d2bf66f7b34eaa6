//! Tables as Docker prints them: columns at least ten wide and at least three wider than their
//! widest cell, the last one not padded.

/// Narrowest column, the gap after it included.
const NARROWEST: usize = 10;
/// Spaces between a cell and the next column.
const GAP: usize = 3;

/// Lays out lines of cells; lines need not be of the same length.
pub fn layout(lines: &[Vec<String>]) -> String {
    layout_with(NARROWEST, lines)
}

/// The same, with columns at least as wide as this, the gap included.
pub fn layout_with(narrowest: usize, lines: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), narrowest);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    let mut text = String::new();
    for line in lines {
        for (index, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let width = if index + 1 == line.len() { 0 } else { *width };
            text += &format!("{cell:<width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_as_in_docker() {
        let line = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
        assert_eq!(
            super::layout(&[line(&["ID", "NAME", "LAST"]), line(&["a", "a long name", "x"])]),
            "ID        NAME          LAST\na         a long name   x\n"
        );
    }
}
