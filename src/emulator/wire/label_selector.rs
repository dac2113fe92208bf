//! The query parameter `labelSelector`: requirements in the grammar of Kubernetes, separated by commas. An object is
//! selected when it meets all of them.

use std::collections::BTreeMap;

use super::scanner::Scanner;

/// A parsed `labelSelector`. The empty selector selects everything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct LabelSelector {
    requirements: Vec<LabelRequirement>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct LabelRequirement {
    key: String,
    test: LabelTest,
}

/// As in Kubernetes, an object without the label passes the negative tests.
#[derive(Clone, Debug, Eq, PartialEq)]
enum LabelTest {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
}

impl LabelSelector {
    /// Parses `a=b, a==b, a!=b, a, !a, a in (b, c), a notin (b, c)`. The error says what is wrong, in a phrase.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = SelectorParser { scanner: Scanner::new(text) };
        let mut requirements = Vec::new();
        while !parser.scanner.rest().is_empty() {
            requirements.push(parser.requirement()?);
            if !parser.scanner.take(",") {
                break;
            }
            if parser.scanner.rest().is_empty() {
                return Err("a requirement is missing after the last comma".to_owned());
            }
        }
        if parser.scanner.rest().is_empty() {
            Ok(Self { requirements })
        } else {
            Err(format!("unexpected '{}'", parser.scanner.rest()))
        }
    }

    /// Whether the selector selects an object with these labels.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|LabelRequirement { key, test }| {
            let value = labels.get(key);
            match test {
                LabelTest::Exists => value.is_some(),
                LabelTest::Absent => value.is_none(),
                LabelTest::In(values) => value.is_some_and(|value| values.contains(value)),
                LabelTest::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

struct SelectorParser<'a> {
    scanner: Scanner<'a>,
}

impl<'a> SelectorParser<'a> {
    fn requirement(&mut self) -> Result<LabelRequirement, String> {
        if self.scanner.take("!") {
            return Ok(LabelRequirement { key: self.key()?, test: LabelTest::Absent });
        }
        let key = self.key()?;
        let test = if self.scanner.take("==") || self.scanner.take("=") {
            LabelTest::In(vec![self.word().to_owned()])
        } else if self.scanner.take("!=") {
            LabelTest::NotIn(vec![self.word().to_owned()])
        } else if self.scanner.rest().is_empty() || self.scanner.rest().starts_with(',') {
            LabelTest::Exists
        } else {
            match self.word() {
                "in" => LabelTest::In(self.values()?),
                "notin" | "notIn" => LabelTest::NotIn(self.values()?),
                _ => return Err(format!("unknown operator after the label '{key}'")),
            }
        };
        Ok(LabelRequirement { key, test })
    }

    fn key(&mut self) -> Result<String, String> {
        match self.word() {
            "" => Err(format!("a label is missing before '{}'", self.scanner.rest())),
            key => Ok(key.to_owned()),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, String> {
        if !self.scanner.take("(") {
            return Err("'(' is missing after 'in' or 'notin'".to_owned());
        }
        let mut values = vec![self.word().to_owned()];
        while self.scanner.take(",") {
            values.push(self.word().to_owned());
        }
        if self.scanner.take(")") { Ok(values) } else { Err("')' is missing".to_owned()) }
    }

    /// Takes a label's key or value. It may be empty.
    fn word(&mut self) -> &'a str {
        self.scanner.word(|character| character.is_alphanumeric() || "-_./:".contains(character))
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
    fn every_operator_works() {
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
    fn a_label_may_have_the_name_of_an_operator() {
        assert!(selects("in in (in)", &[("in", "in")]));
    }

    #[test]
    fn a_malformed_selector_is_an_error() {
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
        fn in_selects_exactly_the_listed_values(names in prop::collection::vec("[a-z][a-z0-9-]{0,9}", 1..20), other in "[A-Z]{3}") {
            let selector = LabelSelector::parse(&format!("job in ({})", names.join(", "))).unwrap();
            for name in &names {
                prop_assert!(selector.matches(&labels(&[("job", name)])));
            }
            prop_assert!(!selector.matches(&labels(&[("job", &other)])));
            prop_assert!(!selector.matches(&labels(&[])));
        }
    }
}
