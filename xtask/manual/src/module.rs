//! The page of the module, `lg(4)`: a text of its own, with the parameters as the module's sources describe them.

use clap_mangen::roff::{Roff, bold, roman};

/// The text, in which a line [`PARAMETERS`] stands for the parameters.
const TEXT: &str = include_str!("../lg.4");
const PARAMETERS: &str = ".\\\" PARAMETERS\n";

/// The module's sources that define parameters which a user may set or read.
const SOURCES: [&str; 4] = [
    include_str!("../../../kmod/lg_main.c"),
    include_str!("../../../kmod/lg_plugin.c"),
    include_str!("../../../kmod/lg_recording.c"),
    include_str!("../../../kmod/lg_user.c"),
];

/// A parameter of the module.
#[derive(Debug, PartialEq, Eq)]
struct Parameter {
    name: String,
    /// The file's mode below `/sys/module/lg/parameters`.
    mode: u32,
    description: String,
}

/// The page.
#[must_use]
pub fn page() -> String {
    let mut list = Roff::new();
    for parameter in SOURCES.iter().flat_map(|source| parameters(source)) {
        let Parameter { name, mode, description } = parameter;
        let when = match mode & 0o222 {
            0 if description.starts_with("read-only") => "",
            0 => " (when the module is loaded)",
            _ => " (when the module is loaded, and later)",
        };
        list.control("TP", []).text([bold(name), roman(when)]).text([roman(description)]);
    }
    // Without the definitions at the head, which a page needs once.
    let (before, after) = TEXT.split_once(PARAMETERS).unwrap_or((TEXT, ""));
    format!("{before}{}{after}", list.render())
}

/// The parameters that a source of the module's defines.
fn parameters(source: &str) -> Vec<Parameter> {
    let described = source.lines().filter_map(|line| {
        let (name, description) =
            line.strip_prefix("MODULE_PARM_DESC(")?.strip_suffix(");")?.split_once(", ")?;
        let mode = source.lines().find_map(|line| {
            let arguments = line.strip_prefix("module_param")?.split_once('(')?.1.strip_suffix(");")?;
            let (first, rest) = arguments.split_once(", ")?;
            let mode = rest.rsplit(", ").next()?;
            (first == name).then(|| u32::from_str_radix(mode, 8).ok())?
        });
        Some(Parameter { name: name.to_owned(), mode: mode?, description: joined(description) })
    });
    described.collect()
}

/// C's string literals, one after the other; a macro between them is a limit of the module's.
fn joined(literals: &str) -> String {
    let parts = literals.split('"').enumerate().map(|(index, part)| match (index % 2, part.trim()) {
        (1, _) => part,
        (_, "") => "",
        _ => "the module's limit",
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_what_its_source_says() {
        let source = "module_param_cb(one, &ops, NULL, 0644);\n\
                      MODULE_PARM_DESC(one, \"the first, 1 to \" __stringify(MAX) \" of all\");\n\
                      module_param_named(two, lg_two, uint, 0400);\nMODULE_PARM_DESC(two, \"read-only: 2\");\n";
        let parameter = |name: &str, mode, description: &str| Parameter {
            name: name.into(),
            mode,
            description: description.into(),
        };
        let expected = [
            parameter("one", 0o644, "the first, 1 to the module's limit of all"),
            parameter("two", 0o400, "read-only: 2"),
        ];
        assert_eq!(parameters(source), expected);
    }

    #[test]
    fn no_parameter_is_left_out() {
        let page = page();
        for source in SOURCES {
            let defined = source.matches("\nmodule_param").count();
            assert_eq!(parameters(source).len(), defined);
            for parameter in parameters(source) {
                let heading = format!("\\fB{}\\fR", parameter.name);
                assert!(page.contains(&heading), "{heading}");
            }
        }
    }
}
