//! Tables on the terminal.

use comfy_table::{LineStyle, TableStyle};

/// As `column -t` and `kvm_stat` print them, with a rule below the heading.
pub const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));
