//! The paths (`crate::heap::LiveTable`, `use super::{…}`) that a Rust file names. Comments and strings name nothing.
//!
//! This reads tokens, not syntax: a path in a macro's arguments counts like any other.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The library, as the binary calls it.
const LIBRARY: &str = "memprof";

/// A file and what it names.
pub(super) struct SourceFile {
    /// Below `src/`.
    pub(super) path: PathBuf,
    /// In the order of the text.
    pub(super) names: Vec<Name>,
    /// Modules declared here (`mod object;`), which hide a dependency of that name.
    declared: BTreeSet<String>,
}

/// A path of the code, such as `crate::heap::LiveTable`.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) line: usize,
    pub(super) root: Root,
    /// From the root on, which is not among them. Never empty.
    segments: Vec<String>,
}

/// Where a path starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Root {
    /// At memprof's own root, after `self` and `super` have been resolved.
    Crate,
    /// At a dependency, or at something in scope.
    Elsewhere,
}

impl Name {
    /// The module or item of the crate's root, or the dependency.
    pub(super) fn first(&self) -> &str {
        &self.segments[0]
    }
}

impl SourceFile {
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self> {
        let tokens: TokenStream = text.parse().map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let mut file = Self { path: path.to_owned(), names: Vec::new(), declared: BTreeSet::new() };
        file.walk(tokens, &module_of(path), &[]);
        Ok(file)
    }

    /// The module of the crate's root that the file belongs to; `main` and `lib` stand for themselves.
    pub(super) fn top_module(&self) -> &str {
        let first = self.path.iter().next().and_then(|first| first.to_str()).unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// Where this file first names a dependency.
    pub(super) fn first_use(&self, dependency: &str) -> Option<&Name> {
        let visible = !self.declared.contains(dependency);
        self.names.iter().find(|name| visible && name.root == Root::Elsewhere && name.first() == dependency)
    }

    /// Collects what `tokens`, which stand in `module`, name. Inside the braces of a `use`, `prefix` is what stands
    /// before them.
    fn walk(&mut self, tokens: TokenStream, module: &[String], prefix: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut next = 0;
        while next < tokens.len() {
            next = match &tokens[next] {
                TokenTree::Ident(keyword) if keyword == "mod" => self.walk_module(&tokens, next + 1, module),
                TokenTree::Ident(_) if !is_field_or_method(&tokens, next) => {
                    self.walk_path(&tokens, next, module, prefix)
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), module, prefix);
                    next + 1
                }
                _ => next + 1,
            };
        }
    }

    /// `mod name;` or `mod name { … }`, from the name on. Gives the index of what comes after.
    fn walk_module(&mut self, tokens: &[TokenTree], name: usize, module: &[String]) -> usize {
        let Some(TokenTree::Ident(ident)) = tokens.get(name) else { return name };
        self.declared.insert(ident.to_string());
        if let Some(TokenTree::Group(body)) = tokens.get(name + 1) {
            let inner = [module, &[ident.to_string()]].concat();
            self.walk(body.stream(), &inner, &[]);
            return name + 2;
        }
        name + 1
    }

    /// A path, from its first segment on. Gives the index of what comes after.
    fn walk_path(&mut self, tokens: &[TokenTree], first: usize, module: &[String], prefix: &[String]) -> usize {
        let line = tokens[first].span().start().line;
        let mut segments = [prefix, &[tokens[first].to_string()]].concat();
        let mut next = first + 1;
        while is_double_colon(tokens, next) {
            match tokens.get(next + 2) {
                Some(TokenTree::Ident(segment)) => segments.push(segment.to_string()),
                Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                    self.walk(group.stream(), module, &segments);
                    return next + 3;
                }
                _ => break,
            }
            next += 3;
        }
        let is_use = first > 0 && matches!(&tokens[first - 1], TokenTree::Ident(keyword) if keyword == "use");
        if segments.len() > 1 || is_use {
            self.names.extend(resolve(line, segments, module));
        }
        next
    }
}

/// Follows `crate`, `self` and `super`. Gives nothing for a path that names the crate's root itself.
fn resolve(line: usize, mut segments: Vec<String>, module: &[String]) -> Option<Name> {
    let mut root = Root::Elsewhere;
    let mut base = module;
    loop {
        match segments.first()?.as_str() {
            "crate" | LIBRARY => base = &[],
            "self" => {}
            "super" => base = base.split_last().map_or(base, |(_, parent)| parent),
            _ => break,
        }
        root = Root::Crate;
        segments.remove(0);
    }
    if root == Root::Crate {
        segments.splice(0..0, base.iter().cloned());
    }
    Some(Name { line, root, segments })
}

/// The module that a file below `src/` is: `heap/ages.rs` is `heap::ages`, `heap/mod.rs` is `heap`.
fn module_of(path: &Path) -> Vec<String> {
    let path = path.with_extension("");
    let mut module: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let last = module.last().map(String::as_str);
    if last == Some("mod") || module == ["main"] || module == ["lib"] {
        module.pop();
    }
    module
}

fn is_field_or_method(tokens: &[TokenTree], index: usize) -> bool {
    index > 0 && is_punctuation(tokens.get(index - 1), '.')
}

fn is_double_colon(tokens: &[TokenTree], index: usize) -> bool {
    is_punctuation(tokens.get(index), ':') && is_punctuation(tokens.get(index + 1), ':')
}

fn is_punctuation(token: Option<&TokenTree>, character: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punctuation)) if punctuation.as_char() == character)
}
