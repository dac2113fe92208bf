//! Where in a tree of mappings and lists something is: `spec.containers[0].env`.

use std::fmt;

#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    Key(String),
    Index(usize),
}

/// A place below the root of a tree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Path(Vec<Step>);

impl Path {
    /// Goes down to a mapping's value.
    pub fn push_key(&mut self, key: &str) {
        self.0.push(Step::Key(key.to_owned()));
    }

    /// Goes down to a list's item.
    pub fn push_index(&mut self, index: usize) {
        self.0.push(Step::Index(index));
    }

    /// Goes back up by one.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// The same place seen from the mapping that has this tree at `key`.
    #[must_use]
    pub fn below_key(mut self, key: &str) -> Self {
        self.0.insert(0, Step::Key(key.to_owned()));
        self
    }

    /// The same place seen from the list that has this tree at `index`.
    #[must_use]
    pub fn below_index(mut self, index: usize) -> Self {
        self.0.insert(0, Step::Index(index));
        self
    }

    /// The place one step up, and the last step's key; nothing when there is no step or it is an index.
    pub fn split_key(mut self) -> (Self, String) {
        match self.0.pop() {
            Some(Step::Key(key)) => (self, key),
            _ => (self, String::new()),
        }
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// Most steps that are written out at each end of a path; a template can be deeper than anybody reads.
const SHOWN: usize = 12;

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = SHOWN..self.0.len().saturating_sub(SHOWN).max(SHOWN);
        for (n, step) in self.0.iter().enumerate() {
            if hidden.contains(&n) {
                if n == hidden.start {
                    f.write_str("…")?;
                }
                continue;
            }
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                // A key that would read as something else, such as an annotation's, stands in brackets.
                Step::Key(key) if !is_plain(key) => write!(f, "[{key:?}]")?,
                Step::Key(key) if n == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '$')
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn keys_are_joined_by_dots_and_indexes_stand_in_brackets() {
        let path = Path::default().below_key("run.googleapis.com/x").below_index(0).below_key("b").below_key("a");
        assert_eq!(path.to_string(), r#"a.b[0]["run.googleapis.com/x"]"#);
        assert_eq!(Path::default().below_index(1).to_string(), "[1]");
        assert_eq!(Path::default().to_string(), "");
    }

    #[test]
    fn going_down_and_up_again_changes_nothing() {
        let mut path = Path::default();
        path.push_key("a");
        path.push_index(3);
        assert_eq!(path, Path::default().below_index(3).below_key("a"));
        path.pop();
        path.pop();
        assert!(path.is_root());
    }

    #[test]
    fn a_long_path_is_cut_in_the_middle() {
        let mut path = Path::default();
        (0..500).for_each(|n| path.push_key(&n.to_string()));
        let text = path.to_string();
        assert!(text.starts_with("0.1.2") && text.contains(".11….488.") && text.ends_with(".499"), "{text}");
    }
}
