//! Reading what Google writes for people: the words without the names in them, and the numbers.

/// A text in lower case without what may be a name, which could contain any word: of `Image 'x' not found` stays
/// `image '' not found`, and of `Secret projects/p/secrets/s was not found` stays `secret … was not found`.
///
/// Permissions such as `iam.serviceAccounts.actAs` stay. Runs of white space become one space.
pub(super) fn plain_words(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in without_quoted(text).split_whitespace() {
        words.push(if is_name(word) { "…".to_owned() } else { word.to_lowercase() });
    }
    words.join(" ")
}

/// The text with the inside of quotation marks left out. An apostrophe inside a word is no quotation mark.
fn without_quoted(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        kept.push(character);
        let may_open = matches!(character, '\'' | '"') && !before.is_alphanumeric();
        before = character;
        if may_open && let Some((inside, after)) = rest.split_once(character) {
            if is_permission(inside) {
                kept.push_str(inside);
            }
            kept.push(character);
            rest = after;
        }
    }
    kept
}

/// Whether it is a permission of Google's: three or more words of letters with dots between them.
fn is_permission(text: &str) -> bool {
    let mut parts = text.split('.').peekable();
    let is_word = |part: &str| !part.is_empty() && part.chars().all(|character| character.is_ascii_alphabetic());
    parts.clone().count() >= 3 && parts.all(is_word)
}

/// Whether a word is a path, an address, or a task's name.
fn is_name(word: &str) -> bool {
    let word = word.trim_end_matches(|character: char| !character.is_alphanumeric());
    let is_task = word.rsplit_once("-task").is_some_and(|(_, index)| index.bytes().all(|byte| byte.is_ascii_digit()));
    is_task || word.contains(['/', '@'])
}

/// Whether a text has this word in exactly this spelling, as conditions have their reasons.
pub(super) fn has_word(text: &str, wanted: &str) -> bool {
    text.split(|character: char| !(character.is_alphanumeric() || character == '_')).any(|word| word == wanted)
}

/// The number that follows these words, with nothing but spaces and a colon between: `exit code: 3`.
pub(super) fn number_after(words: &str, start: &str) -> Option<i64> {
    words.match_indices(start).find_map(|(index, _)| {
        let rest = words.get(index + start.len()..)?.trim_start_matches([' ', ':']);
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

/// A text on one line, of at most this many characters.
pub(super) fn shortened(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().filter(|character| !character.is_control()).collect();
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}
