//! Texts that others wrote, made fit to be shown: without our secrets, without control characters,
//! and short. An STS answer, above all that to a wrong signature, can quote what we sent.

/// Characters of a foreign text that are shown.
const MAX_SHOWN: usize = 300;
/// Characters of it that are looked at; an answer may have a megabyte.
const MAX_READ: usize = 4096;
/// This many characters in a row of a secret give it away: an answer may quote a part of it.
const TELLING: usize = 8;

/// `text` with every part of one of `secrets` replaced by `[hidden]`, what could command a
/// terminal escaped, at most 300 characters long.
pub(super) fn presentable<'a>(text: &str, secrets: impl IntoIterator<Item = &'a str>) -> String {
    let text = match text.char_indices().nth(MAX_READ) {
        Some((end, _)) => &text[..end],
        None => text,
    };
    let bytes = text.as_bytes();
    let mut hidden = vec![false; bytes.len()];
    for secret in secrets.into_iter().filter(|s| !s.is_empty()) {
        let secret = secret.as_bytes();
        let length = secret.len().min(TELLING);
        for start in 0..(bytes.len() + 1).saturating_sub(length) {
            let window = &bytes[start..start + length];
            if secret.windows(length).any(|part| part == window) {
                hidden[start..start + length].fill(true);
            }
        }
    }
    let mut shown = String::new();
    let mut after_hidden = false;
    for (at, c) in text.char_indices() {
        if shown.chars().count() >= MAX_SHOWN {
            shown.push('…');
            break;
        }
        match (hidden[at], c) {
            (true, _) if after_hidden => {}
            (true, _) => shown.push_str("[hidden]"),
            (false, '"' | '\'' | '\\') => shown.push(c),
            (false, _) => shown.extend(c.escape_debug()),
        }
        after_hidden = hidden[at];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_whole_and_in_part() {
        let secrets = ["wJalrXUtnFEMI/K7MDENG", "IQoJb3JpZ2luX2Vj//8="];
        for (text, shown) in [
            ("all is well", "all is well"),
            ("key wJalrXUtnFEMI/K7MDENG!", "key [hidden]!"),
            (
                "token IQoJb3JpZ2luX2Vj%2F%2F8%3D",
                "token [hidden]%2F%2F8%3D",
            ),
            ("cut XUtnFEMI/K7", "cut [hidden]"),
            ("wJalrXUtnFEMI/K7MDENGIQoJb3JpZ2luX2Vj//8=", "[hidden]"),
            ("wJalr", "wJalr"),
        ] {
            assert_eq!(presentable(text, secrets), shown);
        }
        assert_eq!(
            presentable("a short one: tiny", ["tiny", ""]),
            "a short one: [hidden]"
        );
    }

    #[test]
    fn a_foreign_text_can_neither_command_a_terminal_nor_fill_a_log() {
        assert_eq!(
            presentable("a\r\nb\x1b[2J\u{202e}é'\"", []),
            "a\\r\\nb\\u{1b}[2J\\u{202e}é'\""
        );
        assert_eq!(
            presentable(&"x".repeat(5000), []).chars().count(),
            MAX_SHOWN + 1
        );
    }
}
