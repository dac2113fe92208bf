//! `labelSelector`: comma-separated requirements, all of which must hold, in the grammar of Kubernetes.

use std::collections::BTreeMap;

/// A parsed `labelSelector`; the empty one selects everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

/// As in Kubernetes, the negative tests hold for objects without the label too.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl LabelSelector {
    /// Reads `a=b, a==b, a!=b, a, !a, a in (b, c), a notin (b, c)`; the error says what could not be read.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text.trim() };
        let mut requirements = Vec::new();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?);
            if !parser.take(",") {
                break;
            }
            if parser.rest.is_empty() {
                return Err("a requirement is missing after the last comma".to_owned());
            }
        }
        if parser.rest.is_empty() { Ok(Self { requirements }) } else { Err(format!("unexpected '{}'", parser.rest)) }
    }

    /// Whether an object with these labels is selected.
    pub(super) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|Requirement { key, test }| {
            let value = labels.get(key);
            match test {
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
                Test::In(values) => value.is_some_and(|value| values.contains(value)),
                Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn requirement(&mut self) -> Result<Requirement, String> {
        if self.take("!") {
            return Ok(Requirement { key: self.key()?, test: Test::Absent });
        }
        let key = self.key()?;
        let test = if self.take("==") || self.take("=") {
            Test::In(vec![self.word().to_owned()])
        } else if self.take("!=") {
            Test::NotIn(vec![self.word().to_owned()])
        } else if self.rest.is_empty() || self.rest.starts_with(',') {
            Test::Exists
        } else {
            match self.word() {
                "in" => Test::In(self.values()?),
                "notin" | "notIn" => Test::NotIn(self.values()?),
                _ => return Err(format!("no operator is known after the label '{key}'")),
            }
        };
        Ok(Requirement { key, test })
    }

    fn key(&mut self) -> Result<String, String> {
        match self.word() {
            "" => Err(format!("a label is missing before '{}'", self.rest)),
            key => Ok(key.to_owned()),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        if !self.take("(") {
            return Err("'(' is missing after 'in' or 'notin'".to_owned());
        }
        let mut values = vec![self.word().to_owned()];
        while self.take(",") {
            values.push(self.word().to_owned());
        }
        if self.take(")") { Ok(values) } else { Err("')' is missing".to_owned()) }
    }

    /// The characters of label names and values, and nothing when another one comes first.
    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|character: char| !(character.is_alphanumeric() || "-_./:".contains(character)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn selects(selector: &str, pairs: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector).unwrap().matches(&labels(pairs))
    }

    #[test]
    fn every_operator_is_understood() {
        let job = [("run.googleapis.com/job", "daily"), ("tier", "gold")];
        for selector in [
            "",
            "run.googleapis.com/job = daily",
            "run.googleapis.com/job==daily",
            "run.googleapis.com/job in (hourly, daily)",
            "run.googleapis.com/job in (daily),tier",
            "tier notin (silver)",
            "tier notIn (silver,bronze)",
            "tier!=silver",
            "absent!=anything",
            "absent notin (anything)",
            "!absent",
            "tier, !absent",
        ] {
            assert!(selects(selector, &job), "{selector}");
        }
        for selector in [
            "tier=silver",
            "tier!=gold",
            "absent",
            "!tier",
            "tier in (a,b)",
            "tier notin (gold)",
            "tier,absent",
            "tier=",
        ] {
            assert!(!selects(selector, &job), "{selector}");
        }
    }

    #[test]
    fn a_label_may_be_called_as_an_operator() {
        assert!(selects("in in (in)", &[("in", "in")]));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for selector in ["=a", "a in b", "a in (b", "a like b", "a=b c", "a,,b", "a=b,", "!", "a in (b) c"] {
            assert!(LabelSelector::parse(selector).is_err(), "{selector}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = LabelSelector::parse(&text);
        }

        #[test]
        fn in_selects_exactly_the_named_values(names in prop::collection::vec("[a-z][a-z0-9-]{0,9}", 1..20), other in "[A-Z]{3}") {
            let selector = LabelSelector::parse(&format!("job in ({})", names.join(", "))).unwrap();
            for name in &names {
                prop_assert!(selector.matches(&labels(&[("job", name)])));
            }
            prop_assert!(!selector.matches(&labels(&[("job", &other)])));
            prop_assert!(!selector.matches(&labels(&[])));
        }
    }
}
