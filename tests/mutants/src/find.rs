//! The places that can be changed, found in the syntax tree of each file.
//!
//! Left out: tests, `const` code (a number chosen at start cannot reach it), formatting for people, the walks over
//! invariants, and the planted bugs, which are mistakes already.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// The folders whose code is judged.
const ROOMS: [&str; 5] = [
    "core/src/document",
    "core/src/sync",
    "core/src/store",
    "core/src/node",
    "server/connection/src",
];

/// Files and folders of tests inside them.
const TESTS: [&str; 4] = ["tests", "tests.rs", "testing.rs", "arbitrary.rs"];

/// One place and its change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Site {
    /// The file, from the workspace's root.
    pub(crate) file: PathBuf,
    /// Of the place, from 1.
    pub(crate) line: usize,
    /// Of the place, in bytes of the file.
    pub(crate) range: Range<usize>,
    /// The text of the place, unchanged.
    before: String,
    pub(crate) change: Change,
}

/// How a place is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The expression becomes this one.
    Instead(String),
    /// The condition is turned round.
    Negated,
    /// The statement is left out.
    LeftOut,
    /// The function's body ends before it begins, with this value.
    AtOnce(&'static str),
}

impl Site {
    /// The text to stand there, with the change behind `is_made`.
    pub(crate) fn text(&self, is_made: &str) -> String {
        let before = &self.before;
        match &self.change {
            Change::Instead(after) => format!("(if {is_made} {{ {after} }} else {{ {before} }})"),
            Change::Negated => format!("(({before}) != {is_made})"),
            Change::LeftOut => format!("if !{is_made} {{ {before} }}"),
            Change::AtOnce(value) => format!("{{ if {is_made} {{ return {value}; }}"),
        }
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.file == other.file
            && self.range.start < other.range.end
            && other.range.start < self.range.end
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} ", self.file.display(), self.line)?;
        let before = one_line(&self.before);
        match &self.change {
            Change::Instead(after) => write!(f, "`{before}` becomes `{}`", one_line(after)),
            Change::Negated => write!(f, "`{before}` is turned round"),
            Change::LeftOut => write!(f, "`{before}` is left out"),
            Change::AtOnce("") => f.write_str("the function does nothing"),
            Change::AtOnce(value) => write!(f, "the function answers `{value}`"),
        }
    }
}

/// All places, by file and by their order in it.
pub(crate) fn sites(workspace: &Path) -> Result<Vec<Site>, String> {
    let mut files = Vec::new();
    for room in ROOMS {
        list(&workspace.join(room), &mut files)?;
    }
    files.sort();
    let mut sites = Vec::new();
    for path in files {
        let text =
            std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = path.strip_prefix(workspace).expect("it was listed below it").to_owned();
        sites.extend(sites_in(&file, &text)?);
    }
    Ok(sites)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if TESTS.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn sites_in(file: &Path, text: &str) -> Result<Vec<Site>, String> {
    let parsed = syn::parse_file(text).map_err(|e| format!("{}: {e}", file.display()))?;
    let mut finder = Finder { file, text, sites: Vec::new() };
    finder.visit_file(&parsed);
    Ok(finder.sites)
}

struct Finder<'a> {
    file: &'a Path,
    text: &'a str,
    sites: Vec<Site>,
}

impl Finder<'_> {
    fn add(&mut self, span: proc_macro2::Span, change: Change) {
        let range = span.byte_range();
        let before = self.text[range.clone()].to_owned();
        // A planted bug is a mistake already, and an assertion is a judge.
        if before.contains("is_planted") || before.contains("assert") {
            return;
        }
        let line = span.start().line;
        self.sites.push(Site { file: self.file.to_owned(), line, range, before, change });
    }

    fn source(&self, spanned: &impl Spanned) -> &str {
        &self.text[spanned.span().byte_range()]
    }

    fn condition(&mut self, condition: &syn::Expr) {
        let is_simple = !has_let(condition) && comparison(condition).is_none();
        if is_simple {
            self.add(condition.span(), Change::Negated);
        }
    }

    fn body(&mut self, signature: &syn::Signature, block: &syn::Block) {
        if block.stmts.is_empty() {
            return;
        }
        let brace = block.brace_token.span.open();
        for value in values(&signature.output) {
            self.add(brace, Change::AtOnce(value));
        }
    }
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, node: &'ast syn::ItemMod) {
        if !is_left_out(&node.attrs) {
            visit::visit_item_mod(self, node);
        }
    }

    fn visit_item_impl(&mut self, node: &'ast syn::ItemImpl) {
        let is_for_people = node.trait_.as_ref().is_some_and(|(_, path, _)| {
            let name = path.segments.last().map(|segment| segment.ident.to_string());
            matches!(name.as_deref(), Some("Debug" | "Display" | "Error"))
        });
        if !is_for_people && !is_left_out(&node.attrs) {
            visit::visit_item_impl(self, node);
        }
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        if is_judged(&node.attrs, &node.sig) {
            self.body(&node.sig, &node.block);
            visit::visit_item_fn(self, node);
        }
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        if is_judged(&node.attrs, &node.sig) {
            self.body(&node.sig, &node.block);
            visit::visit_impl_item_fn(self, node);
        }
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}

    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}

    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}

    fn visit_type(&mut self, _: &'ast syn::Type) {}

    fn visit_pat(&mut self, _: &'ast syn::Pat) {}

    fn visit_expr_if(&mut self, node: &'ast syn::ExprIf) {
        self.condition(&node.cond);
        visit::visit_expr_if(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        if let Some((_, guard)) = &node.guard {
            self.condition(guard);
        }
        visit::visit_arm(self, node);
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        if let Some(operator) = other_operator(&node.op)
            && !has_let(&node.left)
            && !has_let(&node.right)
        {
            let (left, right) = (self.source(&node.left), self.source(&node.right));
            let after = format!("{left} {operator} {right}");
            self.add(node.span(), Change::Instead(after));
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_method_call(&mut self, node: &'ast syn::ExprMethodCall) {
        let other = match node.method.to_string().as_str() {
            "max" if node.args.len() == 1 => Some("min"),
            "min" if node.args.len() == 1 => Some("max"),
            "any" => Some("all"),
            "all" => Some("any"),
            _ => None,
        };
        if let Some(other) = other {
            let receiver = self.source(&node.receiver);
            let args = self.source(&node.args);
            let after = format!("{receiver}.{other}({args})");
            self.add(node.span(), Change::Instead(after));
        }
        visit::visit_expr_method_call(self, node);
    }

    fn visit_stmt(&mut self, node: &'ast syn::Stmt) {
        if let syn::Stmt::Expr(expression, Some(_)) = node
            && matches!(
                expression,
                syn::Expr::MethodCall(_) | syn::Expr::Assign(_) | syn::Expr::Call(_)
            )
        {
            self.add(node.span(), Change::LeftOut);
        }
        if let syn::Stmt::Expr(syn::Expr::Binary(binary), Some(_)) = node
            && is_assigning(&binary.op)
        {
            self.add(node.span(), Change::LeftOut);
        }
        visit::visit_stmt(self, node);
    }
}

fn is_judged(attributes: &[syn::Attribute], signature: &syn::Signature) -> bool {
    let name = signature.ident.to_string();
    signature.constness.is_none() && name != "check_invariants" && !is_left_out(attributes)
}

/// Code under `#[cfg(…)]` or `#[test]`.
fn is_left_out(attributes: &[syn::Attribute]) -> bool {
    attributes
        .iter()
        .any(|attribute| attribute.path().is_ident("cfg") || attribute.path().is_ident("test"))
}

/// The values that a function of this type can answer without looking.
fn values(output: &syn::ReturnType) -> &'static [&'static str] {
    let syn::ReturnType::Type(_, of) = output else { return &[""] };
    let syn::Type::Path(path) = &**of else { return &[] };
    match path.path.segments.last().map(|segment| segment.ident.to_string()).as_deref() {
        Some("bool") => &["true", "false"],
        Some("Option") => &["None"],
        Some("usize" | "u64" | "u32") => &["0"],
        _ => &[],
    }
}

fn comparison(expression: &syn::Expr) -> Option<&'static str> {
    match expression {
        syn::Expr::Binary(binary) => other_operator(&binary.op),
        _ => None,
    }
}

fn other_operator(operator: &syn::BinOp) -> Option<&'static str> {
    Some(match operator {
        syn::BinOp::Lt(_) => "<=",
        syn::BinOp::Le(_) => "<",
        syn::BinOp::Gt(_) => ">=",
        syn::BinOp::Ge(_) => ">",
        syn::BinOp::Eq(_) => "!=",
        syn::BinOp::Ne(_) => "==",
        syn::BinOp::And(_) => "||",
        syn::BinOp::Or(_) => "&&",
        syn::BinOp::Add(_) => "-",
        syn::BinOp::Sub(_) => "+",
        _ => return None,
    })
}

fn is_assigning(operator: &syn::BinOp) -> bool {
    use syn::BinOp;
    matches!(operator, BinOp::AddAssign(_) | BinOp::SubAssign(_) | BinOp::BitOrAssign(_))
        || matches!(operator, BinOp::BitAndAssign(_))
}

/// A condition with `let` in it binds names for what follows, and cannot become a value.
fn has_let(expression: &syn::Expr) -> bool {
    struct Lets(bool);
    impl<'ast> Visit<'ast> for Lets {
        fn visit_expr_let(&mut self, _: &'ast syn::ExprLet) {
            self.0 = true;
        }
        fn visit_expr_closure(&mut self, _: &'ast syn::ExprClosure) {}
        fn visit_block(&mut self, _: &'ast syn::Block) {}
    }
    let mut lets = Lets(false);
    lets.visit_expr(expression);
    lets.0
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= SHOWN_CHARS {
        return text;
    }
    text.chars().take(SHOWN_CHARS).chain("…".chars()).collect()
}

/// How much of a place is printed.
const SHOWN_CHARS: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(text: &str) -> Vec<String> {
        let sites = sites_in(Path::new("a.rs"), text).expect("it parses");
        sites.iter().map(|site| site.text("X")).collect()
    }

    #[test]
    fn comparisons_conditions_calls_and_answers_are_changed() {
        let text = "fn f(a: u8) -> bool { if g(a) { h(a); } a < 3 }";
        let all = changes(text);
        assert!(all.contains(&"(if X { a <= 3 } else { a < 3 })".to_owned()), "{all:?}");
        assert!(all.contains(&"((g(a)) != X)".to_owned()), "{all:?}");
        assert!(all.contains(&"if !X { h(a); }".to_owned()), "{all:?}");
        assert!(all.contains(&"{ if X { return true; }".to_owned()), "{all:?}");
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn tests_constants_and_conditions_that_bind_are_left_alone() {
        let text = "const A: bool = 1 < 2; #[cfg(test)] mod tests { fn f() { g(); } }
                    fn f(a: Option<u8>) -> u8 { if let Some(b) = a && c { b } else { 1 } }";
        assert_eq!(changes(text), Vec::<String>::new());
    }

    #[test]
    fn places_of_this_workspace_are_found() {
        let sites = sites(&crate::workspace()).expect("its files parse");
        assert!(sites.len() > 1_000, "{}", sites.len());
    }
}
