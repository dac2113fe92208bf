//! Paths of values in nested mappings and lists, as error messages show them: `spec.containers[0].env`.

use std::fmt;

#[derive(Clone, Debug, Eq, PartialEq)]
enum PathSegment {
    Key(String),
    Index(usize),
}

/// The path from the root of a tree to one of its values. The default is the root.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Path(Vec<PathSegment>);

impl Path {
    /// Appends a mapping's key.
    pub fn push_key(&mut self, key: &str) {
        self.0.push(PathSegment::Key(key.to_owned()));
    }

    /// Appends a list's index.
    pub fn push_index(&mut self, index: usize) {
        self.0.push(PathSegment::Index(index));
    }

    /// Removes the last segment.
    pub fn pop(&mut self) {
        self.0.pop();
    }

    /// Prepends a key: returns the path as seen from the mapping that has this tree at `key`.
    #[must_use]
    pub fn below_key(mut self, key: &str) -> Self {
        self.0.insert(0, PathSegment::Key(key.to_owned()));
        self
    }

    /// Prepends an index: returns the path as seen from the list that has this tree at `index`.
    #[must_use]
    pub fn below_index(mut self, index: usize) -> Self {
        self.0.insert(0, PathSegment::Index(index));
        self
    }

    /// Appends another path: returns the path as seen from the root, of what is at `below` in the tree at this path.
    #[must_use]
    pub fn join(&self, below: &Self) -> Self {
        Self(self.0.iter().chain(&below.0).cloned().collect())
    }

    /// Splits off the last segment. Returns the path of the parent and the key, which is empty if the path is the root or
    /// the last segment is an index.
    pub fn split_key(mut self) -> (Self, String) {
        match self.0.pop() {
            Some(PathSegment::Key(key)) => (self, key),
            _ => (self, String::new()),
        }
    }

    /// Returns whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }
}

/// Number of segments that are shown at each end of a longer path. A template can be nested hundreds of levels deep.
const SHOWN_SEGMENTS: usize = 12;

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = SHOWN_SEGMENTS..self.0.len().saturating_sub(SHOWN_SEGMENTS).max(SHOWN_SEGMENTS);
        for (n, segment) in self.0.iter().enumerate() {
            if hidden.contains(&n) {
                if n == hidden.start {
                    f.write_str("…")?;
                }
                continue;
            }
            match segment {
                PathSegment::Index(index) => write!(f, "[{index}]")?,
                // Brackets mark a key that has dots or other special characters, such as an annotation's.
                PathSegment::Key(key) if !is_plain(key) => write!(f, "[{key:?}]")?,
                PathSegment::Key(key) if n == 0 => f.write_str(key)?,
                PathSegment::Key(key) => write!(f, ".{key}")?,
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
    fn keys_are_joined_by_dots_and_indexes_are_in_brackets() {
        let path = Path::default().below_key("run.googleapis.com/x").below_index(0).below_key("b").below_key("a");
        assert_eq!(path.to_string(), r#"a.b[0]["run.googleapis.com/x"]"#);
        assert_eq!(path.join(&path).to_string(), r#"a.b[0]["run.googleapis.com/x"].a.b[0]["run.googleapis.com/x"]"#);
        assert_eq!(Path::default().below_index(1).to_string(), "[1]");
        assert_eq!(Path::default().to_string(), "");
    }

    #[test]
    fn pop_undoes_push() {
        let mut path = Path::default();
        path.push_key("a");
        path.push_index(3);
        assert_eq!(path, Path::default().below_index(3).below_key("a"));
        path.pop();
        path.pop();
        assert!(path.is_root());
    }

    #[test]
    fn a_long_path_is_shortened_in_the_middle() {
        let mut path = Path::default();
        (0..500).for_each(|n| path.push_key(&n.to_string()));
        let text = path.to_string();
        assert!(text.starts_with("0.1.2") && text.contains(".11….488.") && text.ends_with(".499"), "{text}");
    }
}
