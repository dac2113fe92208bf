//! Lists of jobs, executions and tasks: selection by labels, and pages.

use serde::Serialize;

use crate::{
    api::types::{API_VERSION, List, ListMeta, ObjectMeta},
    emulator::{
        store::Collection,
        wire::{ApiRefusal, LabelSelector, QueryParameters},
    },
};

/// The part of a list that a call asks for.
pub(super) struct ListRequest {
    selector: LabelSelector,
    /// Only resources older than this serial.
    before: Option<u64>,
    size: usize,
}

impl ListRequest {
    /// Reads the query parameters `labelSelector`, `continue` and `limit`. `max_size` is the largest page.
    pub(super) fn parse(query: QueryParameters<'_>, max_size: usize) -> Result<Self, ApiRefusal> {
        let selector = LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
            .map_err(|why| ApiRefusal::invalid_field("labelSelector", format!("could not be parsed: {why}.")))?;
        let before = query.get("continue").map(|text| {
            decode_token(text).ok_or_else(|| ApiRefusal::invalid_field("continue", "is not a token of this list."))
        });
        let limit = query.get("limit").map_or(Ok(0), |text| {
            text.parse::<u32>().map_err(|_| ApiRefusal::invalid_field("limit", "must be an integer of at least 0."))
        })?;
        let size = match usize::try_from(limit).unwrap_or(usize::MAX) {
            0 => max_size,
            limit => limit.min(max_size),
        };
        Ok(Self { selector, before: before.transpose()?, size: size.max(1) })
    }

    /// The page of a collection that the call asks for. `kind` is `JobList`, `ExecutionList` or `TaskList`.
    pub(super) fn page<'a, R, T: Serialize>(
        &self,
        collection: &'a Collection<R>,
        kind: &str,
        resource: impl Fn(&'a R) -> &'a T,
        metadata: impl Fn(&'a T) -> &'a ObjectMeta,
    ) -> List<&'a T> {
        let is_selected = |record: &'a R| self.selector.matches(&metadata(resource(record)).labels);
        let (records, next) = collection.page(self.before, self.size, is_selected);
        List {
            api_version: API_VERSION.to_owned(),
            kind: kind.to_owned(),
            metadata: ListMeta { continue_token: next.map(encode_token), ..ListMeta::default() },
            items: records.into_iter().map(resource).collect(),
            unreachable: Vec::new(),
            extra: serde_json::Map::new(),
        }
    }
}

/// Makes a `continue` token look random, so that no client takes it for a number.
const TOKEN_MASK: u64 = 0x9e37_79b9_7f4a_7c15;

/// The `continue` token for a serial.
fn encode_token(before: u64) -> String {
    format!("{:016x}", before ^ TOKEN_MASK)
}

/// The serial in a `continue` token.
fn decode_token(token: &str) -> Option<u64> {
    (token.len() == 16).then(|| u64::from_str_radix(token, 16).ok()).flatten().map(|serial| serial ^ TOKEN_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_round_trips_and_other_texts_are_refused() {
        assert_eq!(decode_token(&encode_token(42)), Some(42));
        for text in ["", "42", "zzzzzzzzzzzzzzzz", "00000000000000000"] {
            assert_eq!(decode_token(text), None, "{text}");
        }
    }
}
