//! Placeholders in strings: `{{\s*([\w\.\-\[\]$]+)\s*}}`.

use std::ops::Range;

use super::tree::Tree;

/// A placeholder in a string.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placeholder<'t> {
    /// Its byte range in the string, including the braces.
    pub range: Range<usize>,
    /// Its name, such as `env.FOO` or `$HOME`.
    pub name: &'t str,
}

/// Where the value of a placeholder comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueSource {
    /// The values that are passed to the renderer.
    Values,
    /// The environment variables of this process.
    Environment,
    /// Prefect's blocks and variables. Prefect itself resolves these placeholders later.
    Prefect,
}

impl Placeholder<'_> {
    /// Returns where the value comes from.
    pub fn source(&self) -> ValueSource {
        if self.name.starts_with("prefect.blocks.") || self.name.starts_with("prefect.variables.") {
            ValueSource::Prefect
        } else if self.name.starts_with('$') {
            ValueSource::Environment
        } else {
            ValueSource::Values
        }
    }
}

/// Returns the placeholders of a string, from left to right. Text that only starts like a placeholder is not one.
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

/// Reads the name at the start of `text`, which is what follows two opening braces. Returns the name, and the number of bytes
/// up to the end of the closing braces.
fn name<'t, T: Tree>(tree: &T, text: &'t str) -> Option<(&'t str, usize)> {
    let is_space = |c: char| match c {
        // Python counts the four ASCII separators as white space, Rust does not.
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
    use super::{super::json::JsonTree, *};

    fn names(text: &str) -> Vec<&str> {
        placeholders(&JsonTree, text).into_iter().map(|placeholder| placeholder.name).collect()
    }

    #[test]
    fn names_consist_of_letters_digits_and_a_few_signs() {
        assert_eq!(names("{{a}} {{ b.c }}{{\t\x1cd-e[0].f \n}}{{ $X }}"), ["a", "b.c", "d-e[0].f", "$X"]);
        assert_eq!(names("{{ größe }}{{\u{2003}x\u{85}}}"), ["größe", "x"]);
    }

    #[test]
    fn text_that_only_starts_like_a_placeholder_is_not_one() {
        let texts =
            ["{{}}", "{{ }}", "{{ a b }}", "{{ a + b }}", "{ { a }}", "{{ a } }", "{{ a", "{{", "{% a %}", "{{ a! }}"];
        for text in texts {
            assert_eq!(names(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn extra_braces_around_a_placeholder_are_text() {
        let text = "{{{{ a }}}} {{ {{b}}";
        let ranges: Vec<_> = placeholders(&JsonTree, text).into_iter().map(|found| &text[found.range]).collect();
        assert_eq!(ranges, ["{{ a }}", "{{b}}"]);
    }

    #[test]
    fn the_name_decides_where_the_value_comes_from() {
        let source = |name| Placeholder { range: 0..0, name }.source();
        assert_eq!(source("prefect.blocks.secret.x"), ValueSource::Prefect);
        assert_eq!(source("prefect.variables.x"), ValueSource::Prefect);
        assert_eq!(source("$X"), ValueSource::Environment);
        for name in ["x", "prefect", "prefect.blocks", "prefect.variablesx", "a.$X"] {
            assert_eq!(source(name), ValueSource::Values, "{name}");
        }
    }
}
