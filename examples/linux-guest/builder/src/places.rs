//! Finding one item of Linux, a function or a macro, in its source, and finding whether it has changed.
//!
//! The port takes the place of some items and leans on others; `replaced.toml` names them
//! ([`super::manifest`]). An item is known by a digest of its text without comments and with white space
//! squeezed, so that a new release of Linux matters only where the code differs.
//!
//! The finder is no parser of C. It relies on Linux's own style: what is at the top level begins in the first
//! column, and a body ends with a brace there.

use sha2::{Digest, Sha256};

/// The text of every definition of `item` in `source` (there may be one on each side of an `#ifdef`), comments
/// removed and white space squeezed; none if there is none. Understood are functions and other C definitions
/// with a body, `#define`, and the assembler's `.macro`, `SYM_…_START` and `ENTRY`.
pub fn definition(source: &str, item: &str) -> Option<String> {
    let text = without_comments(source);
    let lines: Vec<&str> = text.lines().collect();
    let mut found: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        match extent(&lines, at, item) {
            Some(end) => {
                found.extend(&lines[at..end]);
                at = end;
            }
            None => at += 1,
        }
    }
    let squeezed = squeeze(&found.join("\n"));
    (!squeezed.is_empty()).then_some(squeezed)
}

/// A whole file as [`definition`] gives an item.
pub fn whole(source: &str) -> String {
    squeeze(&without_comments(source))
}

/// The first 16 hexadecimal digits of the SHA-256 of `text`.
pub fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Where the definition of `item` ends that begins at line `at`, if one does.
fn extent(lines: &[&str], at: usize, item: &str) -> Option<usize> {
    let line = lines[at];
    let rest = line.trim_start();
    if let Some(directive) = rest.strip_prefix('#') {
        let named = directive.trim_start().strip_prefix("define")?.trim_start();
        return (first_word(named) == item).then(|| end_of_continuation(lines, at));
    }
    if let Some(named) = rest.strip_prefix(".macro") {
        return (first_word(named.trim_start()) == item)
            .then(|| after(lines, at, |l| l.starts_with(".endm")));
    }
    if let Some(inside) = in_parentheses(rest, |opening| {
        (opening.starts_with("SYM_") && opening.contains("_START")) || opening == "ENTRY"
    }) {
        let ends = |l: &str| {
            in_parentheses(l, |closing| {
                (closing.starts_with("SYM_") && closing.contains("_END"))
                    || closing == "END"
                    || closing == "ENDPROC"
            })
            .is_some_and(|name| first_word(name) == item)
        };
        return (first_word(inside) == item).then(|| after(lines, at, ends));
    }
    body(lines, at, item)
}

/// The end of a C definition with a body whose head begins at line `at` and defines `item`.
fn body(lines: &[&str], at: usize, item: &str) -> Option<usize> {
    let continues = at > 0 && head_is_open(lines[at - 1]);
    if continues || lines[at].starts_with(|c: char| c.is_whitespace() || "#{}".contains(c)) {
        return None;
    }
    let mut head = String::new();
    for (number, line) in lines.iter().enumerate().skip(at) {
        let stop = line.find(['{', ';']).unwrap_or(line.len());
        head.push_str(&line[..stop]);
        head.push(' ');
        match line[stop..].chars().next() {
            Some('{') if defines(&head, item) => return Some(end_of_body(lines, number)),
            Some(_) => return None,
            // A label, a directive or an empty line is no part of a head.
            None if line.trim().is_empty() || line.starts_with('#') => return None,
            None => {}
        }
    }
    None
}

/// Whether a line is the first of a head that goes on below it, as where the type has a line of its own.
fn head_is_open(line: &str) -> bool {
    let line = line.trim_end();
    // A macro that stands for a whole definition, such as `EXPORT_SYMBOL(name)`.
    let capital = |c: char| c.is_ascii_uppercase() || c == '_';
    let whole = line.ends_with(')') && first_word(line).chars().all(capital);
    line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && !(whole || line.contains(['{', '}', ';']) || line.ends_with([':', '\\']))
}

/// Whether what stands before a brace defines `item`: a function, a type, a variable, or an entry-point macro
/// whose first argument it is.
fn defines(head: &str, item: &str) -> bool {
    let mut from = 0;
    while let Some(at) = head[from..].find(item).map(|at| at + from) {
        from = at + item.len();
        let (before, after) = (&head[..at], &head[at + item.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) {
            continue;
        }
        let after = after.trim_start();
        let function = after.starts_with('(') && !before.contains('(');
        let kind = first_word_from_end(before);
        let a_type = ["struct", "union", "enum"].contains(&kind) && after.is_empty();
        let variable = without_attributes(after).starts_with(['=', '[']) && !before.contains(['=', '(']);
        let entry = before.trim_start().strip_suffix('(').is_some_and(|name| name.chars().all(is_word));
        if function || a_type || variable || entry {
            return true;
        }
    }
    false
}

/// What follows a variable's name, without attributes such as `__initdata`.
fn without_attributes(mut text: &str) -> &str {
    while text.starts_with("__") {
        text = text[first_word(text).len()..].trim_start();
    }
    text
}

fn end_of_body(lines: &[&str], first: usize) -> usize {
    let mut depth = 0_i32;
    for (number, line) in lines.iter().enumerate().skip(first) {
        for c in line.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
        }
        // The first column's brace closes, whatever unequal branches of an `#ifdef` have opened.
        if depth <= 0 || (number > first && line.starts_with('}')) {
            return number + 1;
        }
    }
    lines.len()
}

fn end_of_continuation(lines: &[&str], at: usize) -> usize {
    after(lines, at, |line| !line.ends_with('\\'))
}

/// The line after the first, from `at` on, for which `last` holds.
fn after(lines: &[&str], at: usize, last: impl Fn(&str) -> bool) -> usize {
    let found = lines.iter().skip(at).position(|line| last(line.trim()));
    found.map_or(lines.len(), |offset| at + offset + 1)
}

/// What is in the parentheses of `NAME(...)`, if `line` begins with that and `wanted` accepts the name.
fn in_parentheses(line: &str, wanted: impl Fn(&str) -> bool) -> Option<&str> {
    let (name, rest) = line.trim_start().split_once('(')?;
    wanted(name.trim_end()).then_some(rest)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn first_word(text: &str) -> &str {
    &text[..text.find(|c| !is_word(c)).unwrap_or(text.len())]
}

fn first_word_from_end(text: &str) -> &str {
    text.split_whitespace().next_back().unwrap_or_default()
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `source` with each comment replaced by a space; line breaks inside comments go too. What looks like a
/// comment inside a string stays.
fn without_comments(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find(['"', '\'', '/']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = if rest.starts_with("/*") {
            text.push(' ');
            let length = rest.find("*/").map_or(rest.len(), |end| end + 2);
            rest = &rest[length..];
            0
        } else if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
            0
        } else if rest.starts_with('"') {
            quoted(rest, '"')
        } else if rest.starts_with('\'') {
            quoted(rest, '\'')
        } else {
            1
        };
        text.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

/// The length of the literal at the beginning of `text`, both quotes included. An apostrophe of assembler or of
/// an `#error` line that is never closed ends with its line.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return at,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
#define NOT_IT(x) native_halt(x)
extern void native_halt(void);
static __always_inline void
native_halt(void)
{
	mds_idle_clear_cpu_buffers();
	asm volatile("hlt": : :"memory"); /* stops */
}

static inline void calls_it(void) { native_halt(); }
#ifdef CONFIG_X
static inline unsigned long read(void)
{
	return "}"[0];
}
#else
static inline unsigned long read(void) { return 2; }
#endif
#define	WITH_TAIL(a) \
	do_it(a)
int after;
struct x86_init {
	int member;
};
static struct x86_init table[] __initdata = {
	{ .member = 1 },
};
DEFINE_IDTENTRY(exc_divide_error)
{
	do_trap();
}
SYM_CODE_START(entry_INT80_32)
	ASM_CLAC
SYM_CODE_END(entry_INT80_32)
.macro SAVE_ALL pt_regs_ax=%eax
	cld
.endm
.macro SAVE_MORE
.endm
"#;

    fn found(item: &str) -> String {
        definition(SOURCE, item).unwrap_or_else(|| panic!("{item} is not found"))
    }

    #[test]
    fn a_definition_is_found_and_not_a_use() {
        assert_eq!(
            found("native_halt"),
            "static __always_inline void native_halt(void) { mds_idle_clear_cpu_buffers(); \
             asm volatile(\"hlt\": : :\"memory\"); }"
        );
        assert_eq!(found("calls_it"), "static inline void calls_it(void) { native_halt(); }");
        assert_eq!(definition(SOURCE, "mds_idle_clear_cpu_buffers"), None);
        assert_eq!(definition(SOURCE, "halt"), None);
    }

    #[test]
    fn both_sides_of_an_ifdef_belong_to_it() {
        let text = found("read");
        assert!(text.contains("\"}\"[0]") && text.contains("return 2;"), "{text}");
    }

    #[test]
    fn macros_types_variables_and_entry_points() {
        assert_eq!(found("WITH_TAIL"), "#define WITH_TAIL(a) \\ do_it(a)");
        assert_eq!(found("x86_init"), "struct x86_init { int member; };");
        assert_eq!(found("table"), "static struct x86_init table[] __initdata = { { .member = 1 }, };");
        assert_eq!(found("exc_divide_error"), "DEFINE_IDTENTRY(exc_divide_error) { do_trap(); }");
        assert!(found("entry_INT80_32").ends_with("SYM_CODE_END(entry_INT80_32)"));
        assert_eq!(found("SAVE_ALL"), ".macro SAVE_ALL pt_regs_ax=%eax cld .endm");
    }

    #[test]
    fn comments_and_white_space_change_nothing_and_code_does() {
        let plain = "void f(void)\n{\n\tg(\"/* not a comment */\");\n}\n";
        let same = "/* new */ \nvoid f(void) // x\n{\n  g(\"/* not a comment */\");\n\n}\n";
        let other = "void f(void)\n{\n\th();\n}\n";
        let digest_of = |text: &str| digest(&definition(text, "f").unwrap());
        assert_eq!(digest_of(plain), digest_of(same));
        assert_ne!(digest_of(plain), digest_of(other));
        assert_ne!(digest(&whole(plain)), digest(&whole(other)));
        assert_eq!(digest("abc"), "ba7816bf8f01cfea", "the example of FIPS 180-4");
    }
}
