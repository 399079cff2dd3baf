//! No file of a crate imports another one that imports it, in however many steps: a reader can begin with any file and
//! come to an end.
//!
//! What counts is `use` and every path that begins with `crate`, `super` or `self`, outside of tests. That a parent declares
//! its modules (`mod`) does not count: it names where they are, and needs nothing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// The source folders of the crates that this holds for: those that people read to learn.
const CRATES: [&str; 13] = [
    "arch-i386/src",
    "benches/sim/src",
    "benches/src",
    "framework/src",
    "kmod/link/src",
    "kmod/src",
    "xtask/book/src",
    "xtask/manual/src",
    "xtask/packages/src",
    "strategies/src",
    "switcher/src",
    "userland-launcher/src",
    "examples/fuzz-launcher/src",
];

/// A module's path within its crate; empty for the root.
type Module = Vec<String>;

fn modules(folder: &Path, path: &Module, found: &mut BTreeMap<Module, PathBuf>) {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.map(|entry| entry.unwrap().path()) {
        let name = entry.file_stem().unwrap().to_str().unwrap().to_owned();
        let child = || path.iter().cloned().chain([name.clone()]).collect::<Module>();
        if entry.is_dir() {
            modules(&entry, &child(), found);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let module = if matches!(&*name, "lib" | "main" | "mod") { path.clone() } else { child() };
            found.insert(module, entry);
        }
    }
}

/// The paths that a file names, each as the modules that it goes through from the crate's root.
struct Paths<'a> {
    here: &'a Module,
    found: Vec<Module>,
}

impl Paths<'_> {
    fn add(&mut self, segments: &[String]) {
        let mut base = match segments.first().map(String::as_str) {
            Some("crate") => Module::new(),
            Some("self" | "super") => self.here.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                name => base.push(name.to_owned()),
            }
        }
        self.found.push(base);
    }

    fn add_tree(&mut self, tree: &UseTree, before: &mut Vec<String>) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(tree, before)),
            UseTree::Name(name) => self.add(&[&before[..], &[name.ident.to_string()]].concat()),
            UseTree::Rename(name) => self.add(&[&before[..], &[name.ident.to_string()]].concat()),
            UseTree::Glob(_) => self.add(before),
        }
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| list.tokens.to_string().contains("test"))
    })
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        match item {
            Item::Mod(module) if is_for_tests(&module.attrs) => {}
            // Modules within the file: what they name by `super` is this file itself.
            Item::Mod(module) if module.content.is_some() => {}
            Item::Use(import) => {
                // `use name::Thing`, where `name` is a module of this one, is a path of its own.
                let mut before = vec!["self".to_owned()];
                self.add_tree(&import.tree, &mut Vec::new());
                self.add_tree(&import.tree, &mut before);
            }
            item => visit::visit_item(self, item),
        }
    }

    /// `pub(super)` needs nothing of the parent.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }
}

/// Which files of a crate each of its files imports.
fn imports(root: &Path) -> BTreeMap<Module, BTreeSet<Module>> {
    let mut files = BTreeMap::new();
    modules(root, &Module::new(), &mut files);
    let mut imports = BTreeMap::new();
    for (module, file) in &files {
        let source = fs::read_to_string(file).unwrap();
        let source = syn::parse_file(&source).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut paths = Paths { here: module, found: Vec::new() };
        paths.visit_file(&source);
        let targets = paths.found.into_iter().filter_map(|path| {
            let to = (0..=path.len()).rev().map(|length| path[..length].to_vec());
            to.into_iter().find(|prefix| files.contains_key(prefix)).filter(|to| to != module)
        });
        // A path that begins with `self` and names an item of the file itself comes to that file, or to a parent.
        imports.insert(module.clone(), targets.filter(|to| !to.is_empty()).collect());
    }
    imports
}

/// A circle, if there is one.
fn circle(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Option<Vec<Module>> {
    fn visit<'a>(
        at: &'a Module,
        imports: &'a BTreeMap<Module, BTreeSet<Module>>,
        path: &mut Vec<&'a Module>,
        done: &mut BTreeSet<&'a Module>,
    ) -> Option<Vec<Module>> {
        if let Some(from) = path.iter().position(|module| *module == at) {
            return Some(path[from..].iter().map(|module| (*module).clone()).collect());
        }
        if !done.insert(at) {
            return None;
        }
        path.push(at);
        let found = imports.get(at).into_iter().flatten().find_map(|to| visit(to, imports, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|module| visit(module, imports, &mut Vec::new(), &mut done))
}

#[test]
fn no_file_imports_itself_in_a_circle() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let circles: Vec<String> = CRATES
        .iter()
        .filter_map(|source| {
            let names: Vec<_> = circle(&imports(&top.join(source)))?.iter().map(|m| m.join("::")).collect();
            Some(format!("{source}: {}", names.join(" -> ")))
        })
        .collect();
    assert!(circles.is_empty(), "circles of imports:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let module = |name: &str| vec![name.to_owned()];
    let edge = |from: &str, to: &[&str]| (module(from), to.iter().map(|to| module(to)).collect());
    let chain = BTreeMap::from([edge("a", &["b", "c"]), edge("b", &["c"]), edge("c", &[])]);
    assert_eq!(circle(&chain), None);
    let ring = BTreeMap::from([edge("a", &["b"]), edge("b", &["c"]), edge("c", &["b"])]);
    assert_eq!(circle(&ring), Some(vec![module("b"), module("c")]));
}
