//! Placeholders in texts: `{{\s*([\w\.\-\[\]$]+)\s*}}`.

use std::ops::Range;

use super::Tree;

/// A placeholder in a text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placeholder<'t> {
    /// Its bytes, braces included.
    pub range: Range<usize>,
    /// Its name: `env.FOO`, `$HOME`.
    pub name: &'t str,
}

/// Where a placeholder's value comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// The values that the template is rendered with.
    Values,
    /// The environment of this process.
    Environment,
    /// Prefect's blocks and variables, which Prefect looks up itself later on.
    Prefect,
}

impl Placeholder<'_> {
    /// Where the value comes from.
    pub fn source(&self) -> Source {
        if self.name.starts_with("prefect.blocks.") || self.name.starts_with("prefect.variables.") {
            Source::Prefect
        } else if self.name.starts_with('$') {
            Source::Environment
        } else {
            Source::Values
        }
    }
}

/// The placeholders of a text, from left to right. What only begins like one is text.
pub fn placeholders<'t, T: Tree>(tree: &T, text: &'t str) -> Vec<Placeholder<'t>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(start) = text[from..].find("{{").map(|offset| from + offset) {
        match name(tree, &text[start + 2..]) {
            Some((name, length)) => {
                from = start + 2 + length;
                found.push(Placeholder { range: start..from, name });
            }
            None => from = start + 1,
        }
    }
    found
}

/// The name that `text` begins with, and the length in bytes of what belongs to it, the closing braces included.
fn name<'t, T: Tree>(tree: &T, text: &'t str) -> Option<(&'t str, usize)> {
    let is_space = |c: char| match c {
        // Python's white space has the four separators of ASCII, which Rust's has not.
        '\0'..='\x7f' => matches!(c, ' ' | '\t'..='\r' | '\x1c'..='\x1f'),
        _ => tree.is_space(c),
    };
    let is_name = |c: char| match c {
        '\0'..='\x7f' => c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '[' | ']' | '$'),
        _ => tree.is_word(c),
    };
    let named = text.trim_start_matches(is_space);
    let name = &named[..named.find(|c| !is_name(c)).unwrap_or(named.len())];
    let rest = named[name.len()..].trim_start_matches(is_space).strip_prefix("}}")?;
    (!name.is_empty()).then_some((name, text.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use super::{super::json::Json, *};

    fn names(text: &str) -> Vec<&str> {
        placeholders(&Json, text).into_iter().map(|placeholder| placeholder.name).collect()
    }

    #[test]
    fn names_have_letters_digits_and_a_few_signs() {
        assert_eq!(names("{{a}} {{ b.c }}{{\t\x1cd-e[0].f \n}}{{ $X }}"), ["a", "b.c", "d-e[0].f", "$X"]);
        assert_eq!(names("{{ größe }}{{\u{2003}x\u{85}}}"), ["größe", "x"]);
    }

    #[test]
    fn what_only_begins_like_a_placeholder_is_text() {
        let texts =
            ["{{}}", "{{ }}", "{{ a b }}", "{{ a + b }}", "{ { a }}", "{{ a } }", "{{ a", "{{", "{% a %}", "{{ a! }}"];
        for text in texts {
            assert_eq!(names(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn braces_around_a_placeholder_stay_text() {
        let text = "{{{{ a }}}} {{ {{b}}";
        let ranges: Vec<_> = placeholders(&Json, text).into_iter().map(|found| &text[found.range]).collect();
        assert_eq!(ranges, ["{{ a }}", "{{b}}"]);
    }

    #[test]
    fn the_name_tells_where_the_value_comes_from() {
        let source = |name| Placeholder { range: 0..0, name }.source();
        assert_eq!(source("prefect.blocks.secret.x"), Source::Prefect);
        assert_eq!(source("prefect.variables.x"), Source::Prefect);
        assert_eq!(source("$X"), Source::Environment);
        for name in ["x", "prefect", "prefect.blocks", "prefect.variablesx", "a.$X"] {
            assert_eq!(source(name), Source::Values, "{name}");
        }
    }
}
