//! What the C and the Rust of the kernel module have to agree on, and the check that they do.
//!
//! Functions: `lg_shim.h` declares every one that crosses the border, for both sides' readers. The C compiler holds the
//! C files to it; [`check`] holds the Rust side to it, in both directions: what Rust calls (its `extern "C"` blocks) and
//! what C calls (its `extern "C"` functions). Names, arguments' names, types and results must be the same.
//!
//! Numbers: they are Rust's, in `kmod/src/shared.rs`, and C has them from a [`header`] that is made of the compiled
//! object.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::fs;
use std::path::Path;

use crate::prelink::BOUNDS;
use anyhow::{Context, Result, anyhow, bail};
use syn::{FnArg, ForeignItem, Item, Pat, ReturnType, Signature};

/// The header that declares the functions.
const HEADER: &str = "lg_shim.h";

/// A type, as far as it matters to a call between C and Rust on i386.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Type {
    Void,
    Never,
    Bool,
    Signed(u32),
    Unsigned(u32),
    Pointer {
        constant: bool,
        to: Box<Type>,
    },
    Function {
        parameters: Vec<Type>,
        result: Box<Type>,
    },
    /// A structure; each language has its own name for it.
    Named(String),
}

impl Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Void => f.write_str("void"),
            Type::Never => f.write_str("no return"),
            Type::Bool => f.write_str("bool"),
            Type::Signed(bits) => write!(f, "i{bits}"),
            Type::Unsigned(bits) => write!(f, "u{bits}"),
            Type::Pointer { constant: true, to } => write!(f, "*const {to}"),
            Type::Pointer { constant: false, to } => write!(f, "*mut {to}"),
            Type::Function { parameters, result } => {
                let parameters: Vec<_> = parameters.iter().map(Type::to_string).collect();
                write!(f, "fn({}) -> {result}", parameters.join(", "))
            }
            Type::Named(name) => f.write_str(name),
        }
    }
}

/// A function that crosses the border, as one side declares it.
#[derive(Debug)]
struct Function {
    parameters: Vec<(String, Type)>,
    result: Type,
}

/// All that one side declares, by name.
type Functions = BTreeMap<String, Function>;

/// Compares `lg_shim.h` in `folder` with the Rust sources in its `src`.
///
/// # Errors
/// When a file cannot be understood, or the two differ: then all the differences.
pub fn check(folder: &Path) -> Result<()> {
    let read =
        |path: &Path| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    let header = folder.join(HEADER);
    let c = c_functions(&read(&header)?).with_context(|| header.display().to_string())?;
    let mut rust = Functions::new();
    let sources = folder.join("src");
    for entry in fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "rs") {
            rust.append(&mut rust_functions(&read(&path)?).with_context(|| path.display().to_string())?);
        }
    }
    match differences(&c, &rust) {
        differences if differences.is_empty() => Ok(()),
        differences => bail!(
            "{} and the Rust sources beside it do not agree:\n    {}",
            header.display(),
            differences.join("\n    ")
        ),
    }
}

/// The C header with the numbers that the Rust object has for C.
pub fn header(numbers: &BTreeMap<String, u32>) -> String {
    let mut text = String::from(
        "/* SPDX-License-Identifier: GPL-2.0-only */\n\
         /* Made by `cargo xtask build` of the compiled Rust object; src/shared.rs says what each number is. */\n\
         #ifndef LG_SHARED_H\n#define LG_SHARED_H\n\n",
    );
    for (name, number) in numbers {
        writeln!(text, "#define {name} {number}").expect("a String takes all");
    }
    text + "\n#endif\n"
}

// ---------------------------------------------------------------- the comparison

fn differences(c: &Functions, rust: &Functions) -> Vec<String> {
    let mut found = Vec::new();
    let mut structures = Structures::default();
    for (name, declared) in c {
        match rust.get(name) {
            None => found.push(format!("{name}: {HEADER} declares it, Rust neither calls nor defines it")),
            Some(function) => found.extend(
                structures.difference(declared, function).into_iter().map(|what| format!("{name}: {what}")),
            ),
        }
    }
    let only_rust = rust.keys().filter(|name| !c.contains_key(*name));
    found.extend(
        only_rust.map(|name| format!("{name}: Rust has it, {HEADER} does not declare it asmlinkage")),
    );
    found
}

/// Which structure of C is which of Rust's, as first seen.
#[derive(Default)]
struct Structures<'f> {
    rust_of_c: BTreeMap<&'f str, &'f str>,
    c_of_rust: BTreeMap<&'f str, &'f str>,
}

impl<'f> Structures<'f> {
    fn difference(&mut self, c: &'f Function, rust: &'f Function) -> Option<String> {
        let (in_c, in_rust) = (c.parameters.len(), rust.parameters.len());
        if in_c != in_rust {
            return Some(format!("it has {in_c} parameters in C, {in_rust} in Rust"));
        }
        for (number, (c, rust)) in c.parameters.iter().zip(&rust.parameters).enumerate() {
            if c.0 != rust.0 || !self.same(&c.1, &rust.1) {
                return Some(format!(
                    "parameter {} is {}: {} in C, {}: {} in Rust",
                    number + 1,
                    c.0,
                    c.1,
                    rust.0,
                    rust.1
                ));
            }
        }
        let same = self.same(&c.result, &rust.result);
        (!same).then(|| format!("its result is {} in C, {} in Rust", c.result, rust.result))
    }

    fn same(&mut self, c: &'f Type, rust: &'f Type) -> bool {
        match (c, rust) {
            (Type::Pointer { constant: c_constant, to: c }, Type::Pointer { constant, to: rust }) => {
                // What C declares as memory only may be anything of Rust's.
                c_constant == constant && (**c == Type::Void || self.same(c, rust))
            }
            (
                Type::Function { parameters: c, result: c_result },
                Type::Function { parameters: rust, result },
            ) => {
                c.len() == rust.len()
                    && c.iter().zip(rust).all(|(c, rust)| self.same(c, rust))
                    && self.same(c_result, result)
            }
            (Type::Named(c), Type::Named(rust)) => {
                *self.rust_of_c.entry(c).or_insert(rust) == rust
                    && *self.c_of_rust.entry(rust).or_insert(c) == c
            }
            _ => c == rust,
        }
    }
}

// ---------------------------------------------------------------- C

/// The functions that a header declares `asmlinkage`.
fn c_functions(header: &str) -> Result<Functions> {
    let code = without_comments(header)?.replace("\\\n", " ");
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with('#')).fold(
        String::new(),
        |mut code, line| {
            code += line;
            code.push('\n');
            code
        },
    );
    code.split(';')
        .map(c_tokens)
        .filter(|tokens| tokens.first() == Some(&"asmlinkage"))
        .map(|tokens| c_function(&tokens[1..]).with_context(|| tokens.join(" ")))
        .collect()
}

fn without_comments(code: &str) -> Result<String> {
    let mut result = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("/*") {
        result += before;
        result.push(' ');
        rest = after.split_once("*/").context("a comment has no end")?.1;
    }
    Ok(result + rest)
}

/// Words and single characters.
fn c_tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length =
            if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start();
    }
    tokens
}

/// A function of its declaration's words: `RESULT NAME(PARAMETERS)`, perhaps `__noreturn`.
fn c_function(tokens: &[&str]) -> Result<(String, Function)> {
    let open = tokens.iter().position(|token| *token == "(").context("it is no function")?;
    let close = tokens.iter().rposition(|token| *token == ")").context("its parameters have no end")?;
    let (name, result) = tokens[..open].split_last().context("it has no name")?;
    let result = match tokens[close + 1..] {
        [] => c_type(result)?,
        ["__noreturn"] if result == ["void"] => Type::Never,
        _ => bail!("what follows its parameters is not understood"),
    };
    let parameters = &tokens[open + 1..close];
    let parameters = match parameters {
        ["void"] => Vec::new(),
        _ => c_list(parameters).into_iter().map(c_parameter).collect::<Result<_>>()?,
    };
    Ok(((*name).to_owned(), Function { parameters, result }))
}

/// The parts between the commas that are in no parentheses.
fn c_list<'t, 'a>(tokens: &'t [&'a str]) -> Vec<&'t [&'a str]> {
    let mut depth = 0;
    tokens
        .split(|token| {
            match *token {
                "(" => depth += 1,
                ")" => depth -= 1,
                _ => {}
            }
            depth == 0 && *token == ","
        })
        .collect()
}

fn c_parameter(tokens: &[&str]) -> Result<(String, Type)> {
    let Some(open) = tokens.iter().position(|token| *token == "(") else {
        let (name, ty) = tokens.split_last().context("a parameter is missing")?;
        return Ok(((*name).to_owned(), c_type(ty)?));
    };
    let ["(", "*", name, ")", "(", parameters @ .., ")"] = &tokens[open..] else {
        bail!("the parameter `{}` is not understood", tokens.join(" "));
    };
    let parameters = c_list(parameters).into_iter().map(c_type).collect::<Result<_>>()?;
    let result = Box::new(c_type(&tokens[..open])?);
    Ok(((*name).to_owned(), Type::Function { parameters, result }))
}

fn c_type(tokens: &[&str]) -> Result<Type> {
    let star = tokens.iter().position(|token| *token == "*").unwrap_or(tokens.len());
    let (base, pointers) = tokens.split_at(star);
    let words: Vec<_> = base.iter().copied().filter(|word| *word != "const").collect();
    let mut ty = match words[..] {
        ["void"] => Type::Void,
        ["bool"] => Type::Bool,
        ["u8" | "char"] => Type::Unsigned(8),
        ["u32"] | ["unsigned", "long" | "int"] => Type::Unsigned(32),
        ["u64"] => Type::Unsigned(64),
        ["int" | "long"] => Type::Signed(32),
        ["struct", name] => Type::Named(name.to_owned()),
        _ => bail!("the type `{}` is not one that crosses the border", tokens.join(" ")),
    };
    let mut constant = words.len() < base.len();
    for token in pointers {
        match *token {
            "*" => ty = Type::Pointer { constant: std::mem::take(&mut constant), to: Box::new(ty) },
            "const" => constant = true,
            _ => bail!("the type `{}` is not understood", tokens.join(" ")),
        }
    }
    Ok(ty)
}

// ---------------------------------------------------------------- Rust

/// The functions of other languages that a source file declares, and those that it defines for them.
fn rust_functions(source: &str) -> Result<Functions> {
    let mut functions = Functions::new();
    for item in syn::parse_file(source)?.items {
        match item {
            Item::ForeignMod(block) => {
                for item in block.items {
                    match item {
                        ForeignItem::Fn(function) => functions.extend([rust_function(&function.sig)?]),
                        ForeignItem::Static(bound) if BOUNDS.contains(&&*bound.ident.to_string()) => {}
                        _ => bail!("only functions and the link script's bounds cross the border"),
                    }
                }
            }
            Item::Fn(function) if function.sig.abi.is_some() => {
                functions.extend([rust_function(&function.sig)?]);
            }
            _ => {}
        }
    }
    Ok(functions)
}

fn rust_function(signature: &Signature) -> Result<(String, Function)> {
    let name = signature.ident.to_string();
    let parameter = |argument: &FnArg| match argument {
        FnArg::Typed(argument) => match &*argument.pat {
            Pat::Ident(pattern) => Ok((pattern.ident.to_string(), rust_type(&argument.ty)?)),
            _ => Err(anyhow!("{name}: a parameter has no name")),
        },
        FnArg::Receiver(_) => Err(anyhow!("{name} is a method")),
    };
    let parameters = signature.inputs.iter().map(parameter).collect::<Result<_>>()?;
    let result = rust_result(&signature.output).with_context(|| name.clone())?;
    Ok((name, Function { parameters, result }))
}

fn rust_result(result: &ReturnType) -> Result<Type> {
    match result {
        ReturnType::Default => Ok(Type::Void),
        ReturnType::Type(_, ty) => rust_type(ty),
    }
}

fn rust_type(ty: &syn::Type) -> Result<Type> {
    Ok(match ty {
        syn::Type::Never(_) => Type::Never,
        syn::Type::Ptr(pointer) => Type::Pointer {
            constant: matches!(pointer.mutability, syn::PointerMutability::Const(_)),
            to: Box::new(rust_type(&pointer.elem)?),
        },
        syn::Type::Array(array) => Type::Named(format!("[{}; …]", rust_type(&array.elem)?)),
        syn::Type::FnPtr(function) => Type::Function {
            parameters: function.inputs.iter().map(|input| rust_type(&input.ty)).collect::<Result<_>>()?,
            result: Box::new(rust_result(&function.output)?),
        },
        syn::Type::Path(path) => {
            let last = path.path.segments.last().context("a type has no name")?;
            match last.ident.to_string().as_str() {
                "bool" => Type::Bool,
                "c_void" => Type::Void,
                "u8" => Type::Unsigned(8),
                "u32" | "usize" => Type::Unsigned(32),
                "u64" => Type::Unsigned(64),
                "i32" => Type::Signed(32),
                "MaybeUninit" => match &last.arguments {
                    syn::PathArguments::AngleBracketed(arguments) => match arguments.args.first() {
                        Some(syn::GenericArgument::Type(inner)) => rust_type(inner)?,
                        _ => bail!("MaybeUninit of what?"),
                    },
                    _ => bail!("MaybeUninit of what?"),
                },
                name => Type::Named(name.to_owned()),
            }
        }
        _ => bail!("a type is not one that crosses the border"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const C: &str = "\
        /* asmlinkage void lg_not(void); */\n\
        #define LG_X(a) \\\n\tasmlinkage bool a(void);\n\
        struct lg_vcpu;\n\
        asmlinkage u32 lg_enter(struct lg_vcpu *vcpu, void *state, u32 seen, u32 ts);\n\
        asmlinkage bool lg_mine(const struct lg_vcpu *vcpu);\n\
        asmlinkage void lg_lock(struct mutex *mutex);\n\
        asmlinkage void lg_bug(const char *text, u32 length) __noreturn;\n\
        asmlinkage bool lg_guard(void (*call)(void *), void *data);\n\
        asmlinkage const char *lg_words(u32 *length);\n\
        asmlinkage long lg_rust_read(const void *file, unsigned long user);\n\
        int lg_cpu_init(void);\n";

    const RUST: &str = "\
        unsafe extern \"C\" {\n\
            pub fn lg_enter(vcpu: *mut RawVcpu, state: *mut c_void, seen: u32, ts: u32) -> u32;\n\
            pub fn lg_mine(vcpu: *const RawVcpu) -> bool;\n\
            pub fn lg_lock(mutex: *mut RawMutex);\n\
            pub fn lg_bug(text: *const u8, length: u32) -> !;\n\
            pub fn lg_guard(call: unsafe extern \"C\" fn(*mut c_void), data: *mut c_void) -> bool;\n\
            pub fn lg_words(length: *mut u32) -> *const u8;\n\
        }\n\
        #[unsafe(no_mangle)]\n\
        unsafe extern \"C\" fn lg_rust_read(file: *const File, user: u32) -> i32 { 0 }\n\
        fn other() {}\n";

    fn compared(c: &str, rust: &str) -> Vec<String> {
        differences(&c_functions(c).unwrap(), &rust_functions(rust).unwrap())
    }

    #[test]
    fn the_modules_two_sides_agree() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        check(&folder).unwrap();
        let header = fs::read_to_string(folder.join(HEADER)).unwrap();
        let functions = c_functions(&header).unwrap();
        assert_eq!(functions.len(), header.lines().filter(|line| line.starts_with("asmlinkage")).count());
    }

    #[test]
    fn each_difference_is_found_on_either_side() {
        assert_eq!(compared(C, RUST), [""; 0]);
        let of_c = [
            ("u32 seen", "u64 seen", "lg_enter: parameter 3 is seen: u64 in C, seen: u32 in Rust"),
            (
                "u32 seen, u32 ts",
                "u32 ts, u32 seen",
                "lg_enter: parameter 3 is ts: u32 in C, seen: u32 in Rust",
            ),
            ("u32 seen, u32 ts", "u32 seen", "lg_enter: it has 3 parameters in C, 4 in Rust"),
            ("u32 lg_enter", "int lg_enter", "lg_enter: its result is i32 in C, u32 in Rust"),
            ("u32 lg_enter", "u32 *lg_enter", "lg_enter: its result is *mut u32 in C, u32 in Rust"),
            (
                "const struct lg_vcpu",
                "struct lg_vcpu",
                "lg_mine: parameter 1 is vcpu: *mut lg_vcpu in C, vcpu: *const RawVcpu in Rust",
            ),
            (
                "struct mutex *",
                "struct lg_vcpu *",
                "lg_lock: parameter 1 is mutex: *mut lg_vcpu in C, mutex: *mut RawMutex in Rust",
            ),
            (" __noreturn", "", "lg_bug: its result is void in C, no return in Rust"),
            (
                "(void *), void *data",
                "(u32), void *data",
                "lg_guard: parameter 1 is call: fn(u32) -> void in C, call: fn(*mut void) -> void in Rust",
            ),
            (
                "bool lg_mine",
                "bool lg_his",
                "lg_his: lg_shim.h declares it, Rust neither calls nor defines it",
            ),
            (
                "asmlinkage long lg_rust_read",
                "long lg_rust_read",
                "lg_rust_read: Rust has it, lg_shim.h does not declare it asmlinkage",
            ),
        ];
        for (from, to, expected) in of_c {
            let changed = C.replace(from, to);
            assert_ne!(changed, C);
            assert_eq!(compared(&changed, RUST)[0], expected);
        }
        let of_rust = [
            ("i32 { 0 }", "i64 { 0 }", "lg_rust_read: its result is i32 in C, i64 in Rust"),
            (
                "*const File",
                "*mut File",
                "lg_rust_read: parameter 1 is file: *const void in C, file: *mut File in Rust",
            ),
            (
                "length: *mut u32",
                "length: u32",
                "lg_words: parameter 1 is length: *mut u32 in C, length: u32 in Rust",
            ),
        ];
        for (from, to, expected) in of_rust {
            let changed = RUST.replace(from, to);
            assert_ne!(changed, RUST);
            assert_eq!(compared(C, &changed), [expected]);
        }
    }

    #[test]
    fn what_cannot_cross_is_refused() {
        assert!(c_functions("asmlinkage struct pair lg_two(float x);").is_err());
        assert!(c_functions("asmlinkage u32 lg_no_end(u32 a;").is_err());
        assert!(rust_functions("extern \"C\" { fn lg_slice(text: &[u8]); }").is_err());
        assert!(rust_functions("extern \"C\" { static LG_WORD: u32; }").is_err());
    }

    #[test]
    fn numbers_become_a_header() {
        let numbers = BTreeMap::from([("LG_B".to_owned(), 2), ("LG_A".to_owned(), u32::MAX)]);
        let header = header(&numbers);
        assert!(header.contains("\n#define LG_A 4294967295\n#define LG_B 2\n\n#endif\n"), "{header}");
    }
}
