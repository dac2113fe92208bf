//! How many cases the property tests draw.

use proptest::test_runner::Config;

/// `PROPTEST_CASES` cases, or `default` if the variable is not set. `PROPTEST_RNG_SEED` makes a run repeatable.
pub fn cases(default: u32) -> Config {
    let config = Config { failure_persistence: None, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { Config { cases: default, ..config } }
}
